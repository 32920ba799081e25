"""The planes of the body and their display: directions, letters, colours, grey window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medsr_monai.system.errors import InputError

DPI = 100
BACKGROUND, TEXT, FAINT, ACCENT = "#101214", "#e8eaed", "#9aa0a6", "#ffb74d"
WINDOW_PERCENTILES = (0.5, 99.8)


@dataclass(frozen=True)
class Plane:
    """The axes of a RAS array that a plane shows, and the letters at its left, right, lower and upper border."""

    name: str
    normal: int
    across: int
    up: int
    letters: tuple[str, str, str, str]


# Radiological convention: the patient faces the viewer; in the sagittal plane, the patient looks to the left.
PLANES = (
    Plane("sagittal", 0, 1, 2, ("A", "P", "I", "S")),
    Plane("coronal", 1, 0, 2, ("R", "L", "I", "S")),
    Plane("axial", 2, 0, 1, ("R", "L", "P", "A")),
)


def grey_window(image: np.ndarray) -> tuple[float, float]:
    """Choose the intensities to show as black and white: percentiles of the finite voxels.

    Args:
        image: any shape, in any unit.

    Returns:
        Black and white, in the image's unit; white is above black.

    Raises:
        InputError: no voxel is finite.
    """
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        raise InputError("grey window: the image has no finite voxel; choose another image")
    low, high = (float(v) for v in np.percentile(finite, WINDOW_PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)
