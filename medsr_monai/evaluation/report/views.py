"""Pictures of a case that the evaluation kept: slices through three planes, and a stack to leaf through."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.geometry.planes import PLANES, Plane
from medsr_monai.system.errors import InputError

PLANE = {plane.name: plane for plane in PLANES}


@dataclass(frozen=True)
class View:
    """One case under one condition; intensities are such that 1 is HR's 99.5th percentile."""

    path: Path
    case: str
    condition: str
    spacing_mm: tuple[float, ...]
    lr_spacing_mm: tuple[float, ...]
    window: tuple[float, float]
    planes: tuple[Plane, ...]
    stack_plane: Plane
    stack_positions_mm: tuple[float, ...]
    images: tuple[str, ...]
    arrays: dict[str, np.ndarray]

    def plane(self, image: str, plane: Plane) -> np.ndarray:
        """Intensities (rows, columns), float32; row 0 is the picture's top."""
        return self.arrays[f"plane/{image}/{plane.name}"].astype(np.float32)

    def stack(self, image: str) -> np.ndarray:
        """Grey levels (slices, rows, columns), uint8."""
        return self.arrays[f"stack/{image}"]

    def size_mm(self, image: str, picture: np.ndarray, plane: Plane) -> tuple[float, float]:
        """Width and height of a picture (..., rows, columns) in mm."""
        spacing = self.lr_spacing_mm if image == "lr" else self.spacing_mm
        return picture.shape[-1] * spacing[plane.across], picture.shape[-2] * spacing[plane.up]


def _checked(path: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> View:
    images = tuple(str(name) for name in meta["images"])
    view = View(
        path,
        str(meta["case"]),
        str(meta["condition"]),
        tuple(float(mm) for mm in meta["spacing_mm"]),
        tuple(float(mm) for mm in meta["lr_spacing_mm"]),
        (float(meta["window"][0]), float(meta["window"][1])),
        tuple(PLANE[name] for name in meta["planes"]),
        PLANE[meta["stack_plane"]],
        tuple(float(mm) for mm in meta["stack_positions_mm"]),
        images,
        arrays,
    )
    numbers = (*view.spacing_mm, *view.lr_spacing_mm, view.window[1] - view.window[0])
    if len(view.spacing_mm) != 3 or len(view.lr_spacing_mm) != 3 or not all(0 < n < float("inf") for n in numbers):
        raise ValueError("spacing or grey window")
    if not {"lr", "hr"} <= set(images):
        raise ValueError("images 'lr' and 'hr'")
    for image in images:
        stack = arrays[f"stack/{image}"]
        if stack.ndim != 3 or stack.dtype != np.uint8 or not stack.size or len(stack) != len(view.stack_positions_mm):
            raise ValueError(f"stack of '{image}'")
        for plane in view.planes:
            shape = arrays[f"plane/{image}/{plane.name}"].shape
            hr_shape = arrays[f"plane/hr/{plane.name}"].shape
            if len(shape) != 2 or 0 in shape or (image != "lr" and shape != hr_shape):
                raise ValueError(f"{plane.name} plane of '{image}'")
    return view


def read_view(path: Path) -> View:
    """Read and check one file of ``RUN/views``.

    Raises:
        InputError: the file is damaged, or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        return _checked(path, json.loads(str(arrays.pop("meta"))), arrays)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: damaged picture file ({reason}); run `medsr evaluate` again") from error


def find_views(folder: Path) -> list[Path]:
    """The picture files of a run; none where it kept no pictures."""
    return sorted((folder / "views").glob("*.npz"))
