"""What a report shows of a case: three planes of every image, and a stack of slices to go through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from medsr_monai.geometry.planes import PLANES, Plane, grey_window

MOST_SLICES = 32
STACK_PLANE = PLANES[2]
LR, HR = "lr", "hr"


@dataclass(frozen=True)
class Picture:
    """An image (X, Y, Z) in RAS order, in units of P99.5, with its voxels' size in mm.

    All pictures of a case are centred on one another: they show the same field of view.
    """

    voxels: np.ndarray
    spacing_mm: tuple[float, ...]

    def start_mm(self, axis: int) -> float:
        return -self.spacing_mm[axis] * self.voxels.shape[axis] / 2

    def cut(self, plane: Plane, at_mm: float) -> np.ndarray:
        """The slice at a position along the plane's normal, as it is displayed: row 0 on top, columns from the left."""
        axis = plane.normal
        index = int((at_mm - self.start_mm(axis)) // self.spacing_mm[axis])
        return np.take(self.voxels, min(max(index, 0), self.voxels.shape[axis] - 1), axis=axis).T[::-1, ::-1]


def _foreground_mm(picture: Picture, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest, median and highest position of a mask's voxels along each axis, (3,) each."""
    inside = np.nonzero(mask)
    ends = [(found.min(), np.median(found) + 0.5, found.max() + 1) for found in inside]
    starts = np.array([picture.start_mm(axis) for axis in range(3)])
    low, middle, high = np.array(ends, dtype=float).T * np.array(picture.spacing_mm) + starts
    return low, middle, high


def draw_views(
    case: str, condition: str, lr: Picture, hr: Picture, mask: np.ndarray, results: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays of a views file.

    Args:
        case: its name.
        condition: its name.
        lr: the measurement.
        hr: the reference.
        mask: (X, Y, Z) bool, which voxels count: the planes go through its median.
        results: (X, Y, Z) by method, on the grid of hr.

    Returns:
        ``meta`` (JSON), ``plane/IMAGE/PLANE`` float16 and ``stack/IMAGE`` uint8.
    """
    low, middle, high = _foreground_mm(hr, mask)
    window = grey_window(hr.voxels)
    axis = STACK_PLANE.normal
    count = min(MOST_SLICES, max(1, round((high[axis] - low[axis]) / hr.spacing_mm[axis])))
    positions = low[axis] + (np.arange(count) + 0.5) * (high[axis] - low[axis]) / count
    images = {LR: lr, HR: hr, **{name: Picture(voxels, hr.spacing_mm) for name, voxels in results.items()}}
    meta: dict[str, Any] = {
        "case": case,
        "condition": condition,
        "spacing_mm": [float(mm) for mm in hr.spacing_mm],
        "lr_spacing_mm": [float(mm) for mm in lr.spacing_mm],
        "window": list(window),
        "planes": [plane.name for plane in PLANES],
        "stack_plane": STACK_PLANE.name,
        "stack_positions_mm": positions.tolist(),
        "images": list(images),
    }
    arrays = {"meta": np.array(json.dumps(meta))}
    for name, picture in images.items():
        for plane in PLANES:
            arrays[f"plane/{name}/{plane.name}"] = picture.cut(plane, middle[plane.normal]).astype(np.float16)
        stack = np.stack([picture.cut(STACK_PLANE, position) for position in positions])
        grey = (stack - window[0]) / (window[1] - window[0])
        arrays[f"stack/{name}"] = (grey.clip(0, 1) * 255).round().astype(np.uint8)
    return arrays


def shown_methods(arrays: Mapping[str, np.ndarray] | None) -> set[str]:
    """The methods in a views file."""
    if arrays is None or "meta" not in arrays:
        return set()
    try:
        return set(json.loads(str(arrays["meta"]))["images"]) - {LR, HR}
    except (ValueError, KeyError, TypeError):  # damaged: drawn again
        return set()


def voxels_of(image: Tensor) -> np.ndarray:
    """(X, Y, Z) of the first image and channel of (1, 1, X, Y, Z)."""
    return image[0, 0].detach().cpu().numpy()
