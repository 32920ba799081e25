"""Pictures of a case: every image through the planes of the body, and a stack of slices to go through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.evaluation.plan import HR, LR
from medsr_monai.evaluation.record.fields import AGAIN, parse
from medsr_monai.evaluation.record.folder import write_arrays
from medsr_monai.geometry.planes import PLANES, Picture, Plane, grey_levels, grey_window
from medsr_monai.system.errors import InputError

MOST_SLICES = 32
STACK_PLANE = PLANES[2]
PLANE_OF = {plane.name: plane for plane in PLANES}


@dataclass(frozen=True, kw_only=True)
class View:
    """One case under one condition; intensities are such that 1 is HR's 99.5th percentile.

    Args:
        spacing_mm: of HR and the results, (3,).
        lr_spacing_mm: of the measurement, (3,).
        window: intensities that are shown as black and white.
        cuts: (rows, columns) float16 by image and name of the plane; row 0 is the picture's top.
        stacks: grey levels (slices, rows, columns) uint8 by image: ``lr``, ``hr`` and the methods.
    """

    case: str
    condition: str
    spacing_mm: tuple[float, ...]
    lr_spacing_mm: tuple[float, ...]
    window: tuple[float, float]
    planes: tuple[Plane, ...]
    stack_plane: Plane
    stack_positions_mm: tuple[float, ...]
    cuts: Mapping[tuple[str, str], np.ndarray]
    stacks: Mapping[str, np.ndarray]

    @property
    def methods(self) -> list[str]:
        return [name for name in self.stacks if name not in (LR, HR)]

    def cut(self, image: str, plane: Plane) -> np.ndarray:
        """Intensities (rows, columns), float32."""
        return self.cuts[image, plane.name].astype(np.float32)

    def pixel_mm(self, image: str, plane: Plane) -> tuple[float, float]:
        """Height and width of a pixel."""
        spacing = self.lr_spacing_mm if image == LR else self.spacing_mm
        return spacing[plane.up], spacing[plane.across]

    def size_mm(self, image: str, picture: np.ndarray, plane: Plane) -> tuple[float, float]:
        """Width and height of a picture (..., rows, columns)."""
        height, width = self.pixel_mm(image, plane)
        return picture.shape[-1] * width, picture.shape[-2] * height

    def write(self, path: Path) -> None:
        """Write one file of ``RUN/views``."""
        meta = vars(self) | {"planes": [plane.name for plane in self.planes], "stack_plane": self.stack_plane.name}
        meta["images"] = list(meta.pop("stacks"))
        del meta["cuts"]
        cuts = {f"plane/{image}/{plane}": cut for (image, plane), cut in self.cuts.items()}
        stacks = {f"stack/{image}": stack for image, stack in self.stacks.items()}
        write_arrays(path, {"meta": np.array(json.dumps(meta)), **cuts, **stacks})

    @classmethod
    def read(cls, path: Path) -> View:
        """Read and check one file of ``RUN/views``.

        Raises:
            InputError: the file is damaged, or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                meta = json.loads(str(arrays["meta"]))
                images, planes = meta["images"], meta["planes"]
                meta["planes"] = [_plane("planes", name) for name in planes]
                meta["stack_plane"] = _plane("stack_plane", meta["stack_plane"])
                meta["cuts"] = {(name, plane): arrays[f"plane/{name}/{plane}"] for name in images for plane in planes}
                meta["stacks"] = {name: arrays[f"stack/{name}"] for name in images}
                view = parse(cls, meta)
            _check(view)
        except Exception as error:  # zipfile, zlib and numpy raise what they like for a damaged file
            # numpy says "stack/sr is not a file in the archive", a table of keys only "images".
            reason = f"no {error.args[0]}".split(" is not ")[0] if isinstance(error, KeyError) else str(error)
            reason = " ".join(reason.split())[:100]
            raise InputError(f"{path}: damaged picture file ({reason}); {AGAIN}") from error
        return view


def _plane(key: str, name: Any) -> Plane:
    if name not in PLANE_OF:
        raise ValueError(f"{key} {name!r}: known are {', '.join(PLANE_OF)}")
    return PLANE_OF[name]


def _check(view: View) -> None:
    for key in ("spacing_mm", "lr_spacing_mm"):
        spacing = getattr(view, key)
        if len(spacing) != 3 or min(spacing) <= 0:
            raise ValueError(f"{key} {list(spacing)}: need three positive numbers")
    if len(view.window) != 2 or view.window[1] <= view.window[0]:
        raise ValueError(f"grey window {view.window}")
    for image in (LR, HR):
        if image not in view.stacks:
            raise ValueError(f"no image '{image}'")
    for image, stack in view.stacks.items():
        if stack.ndim != 3 or stack.dtype != np.uint8 or not stack.size or len(stack) != len(view.stack_positions_mm):
            raise ValueError(f"stack of '{image}' is {stack.dtype} {stack.shape}; need uint8 (slices, rows, columns)")
        # One grid for all: readers would tell methods by the size of their pixels.
        if image != LR and stack.shape != view.stacks[HR].shape:
            raise ValueError(f"stack of '{image}' is {stack.shape}, of 'hr' {view.stacks[HR].shape}; need one grid")
    for (image, plane), cut in view.cuts.items():
        if cut.ndim != 2 or not cut.size or (image != LR and cut.shape != view.cuts[HR, plane].shape):
            raise ValueError(f"{plane} plane of '{image}' is {cut.shape}")


def draw_view(
    case: str, condition: str, lr: Picture, hr: Picture, mask: np.ndarray, results: Mapping[str, np.ndarray]
) -> View:
    """Cut every image through the middle of the foreground.

    Args:
        mask: (X, Y, Z) bool, which voxels count: the planes go through its median.
        results: (X, Y, Z) by method, on the grid of hr.
    """
    inside = np.nonzero(mask)
    ends = [(indices.min(), np.median(indices) + 0.5, indices.max() + 1) for indices in inside]
    low, middle, high = np.array(ends, dtype=float).T * np.array(hr.spacing_mm) + hr.start_mm
    window, axis = grey_window(hr.voxels), STACK_PLANE.normal
    count = min(MOST_SLICES, max(1, round((high[axis] - low[axis]) / hr.spacing_mm[axis])))
    positions = low[axis] + (np.arange(count) + 0.5) * (high[axis] - low[axis]) / count
    images = {LR: lr, HR: hr, **{name: Picture(voxels, hr.spacing_mm) for name, voxels in results.items()}}
    return View(
        case=case,
        condition=condition,
        spacing_mm=tuple(float(mm) for mm in hr.spacing_mm),
        lr_spacing_mm=tuple(float(mm) for mm in lr.spacing_mm),
        window=window,
        planes=hr.planes,
        stack_plane=STACK_PLANE,
        stack_positions_mm=tuple(positions.tolist()),
        cuts={
            (name, plane.name): picture.cut(plane, middle[plane.normal]).astype(np.float16)
            for name, picture in images.items()
            for plane in hr.planes
        },
        stacks={
            name: np.stack([grey_levels(picture.cut(STACK_PLANE, at), window) for at in positions])
            for name, picture in images.items()
        },
    )


def shown_methods(path: Path) -> set[str]:
    """The methods in a file of pictures; none where it is missing or damaged, so that it is drawn again."""
    try:
        return set(View.read(path).methods)
    except InputError:
        return set()
