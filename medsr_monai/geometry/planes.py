"""The planes of the body and their display: directions, letters, colours, grey window, cuts, close-ups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medsr_monai.system.errors import InputError

DPI = 100
BACKGROUND, TEXT, FAINT, ACCENT = "#101214", "#e8eaed", "#9aa0a6", "#ffb74d"
WINDOW_PERCENTILES = (0.5, 99.8)
BRIGHT = 0.1
"""Share of the grey window above which a voxel counts as foreground."""


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
    """Choose the intensities to show as black and white, in the image's unit: percentiles of the finite voxels."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        raise InputError("grey window: the image has no finite voxel; choose another image")
    low, high = (float(v) for v in np.percentile(finite, WINDOW_PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def grey_levels(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Intensities as grey levels from 0 to 255, uint8; what is not a number is black or white."""
    shares = (np.nan_to_num(image) - window[0]) / (window[1] - window[0])
    return np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """A volume (X, Y, Z) in RAS order with the size of its voxels.

    All pictures of a case are centred on one another: they show the same field of view, whose middle is at 0 mm.
    """

    voxels: np.ndarray
    spacing_mm: tuple[float, ...]

    @property
    def start_mm(self) -> np.ndarray:
        """Where the first voxel begins, (3,)."""
        return -self.end_mm

    @property
    def end_mm(self) -> np.ndarray:
        """Where the last voxel ends, (3,)."""
        return np.array(self.spacing_mm) * self.voxels.shape / 2

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes that show something: all three of a volume, one of a single slice."""
        shape = self.voxels.shape
        flat = [plane for plane in PLANES if min(shape[plane.across], shape[plane.up]) > 1]
        return tuple(flat) or PLANES

    def cut(self, plane: Plane, at_mm: float) -> np.ndarray:
        """The slice at a position along the plane's normal, as it is displayed: row 0 on top, columns from the left."""
        axis = plane.normal
        index = int((at_mm - self.start_mm[axis]) // self.spacing_mm[axis])
        return np.take(self.voxels, min(max(index, 0), self.voxels.shape[axis] - 1), axis=axis).T[::-1, ::-1]


def foreground_centre_mm(image: np.ndarray, spacing_mm: Sequence[float], window: tuple[float, float]) -> np.ndarray:
    """The median position of the foreground, or the middle where there is none, in mm from the array's corner.

    Args:
        image: with any number of axes.
        spacing_mm: one per axis.
        window: grey window; voxels brighter than a tenth of it are foreground.
    """
    bright = np.nonzero(image > window[0] + BRIGHT * (window[1] - window[0]))
    if not bright[0].size:
        return np.array(image.shape) * spacing_mm / 2
    return (np.array([np.median(indices) for indices in bright]) + 0.5) * spacing_mm


def close_up_mm(size_mm: np.ndarray, centre_mm: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper corner of a box around a point, moved and where need be trimmed to the field of view.

    Args:
        size_mm: of the field of view, (axes,).
        centre_mm: from the same corner as the result, (axes,).
        share: of the longest axis, that the box's sides have.
    """
    side = np.minimum(share * size_mm.max(), size_mm)
    low = np.clip(centre_mm - side / 2, 0, size_mm - side)
    return low, low + side
