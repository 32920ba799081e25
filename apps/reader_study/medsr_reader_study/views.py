"""The pictures of an evaluation: ``RUN/views/*.npz``, one file a case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from medsr_monai.geometry.planes import PLANES, Plane
from medsr_monai.system.errors import InputError

INPUT, REFERENCE = "lr", "hr"


@dataclass(frozen=True)
class View:
    """The stacks of slices of one case, grey window applied.

    stacks: by image's name, uint8, (slices, rows, columns), row 0 on top; the same positions for every image.
    pixel_mm: height and width of a pixel, of every image.
    """

    case: str
    condition: str
    plane: Plane
    stacks: Mapping[str, np.ndarray]
    pixel_mm: Mapping[str, tuple[float, float]]

    @property
    def methods(self) -> list[str]:
        return [name for name in self.stacks if name not in (INPUT, REFERENCE)]


def read_views(run: str | Path, condition: str | None = None) -> list[View]:
    """All cases that have pictures, of one condition, by name.

    Args:
        run: the folder that an evaluation wrote.
        condition: where there are pictures of several.

    Raises:
        InputError: no pictures, a damaged file, or pictures of several conditions and none chosen.
    """
    folder = Path(run) / "views"
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise InputError(f"{folder}: no pictures (*.npz); evaluate with pictures of at least one case")
    views = [read_view(file) for file in files]
    conditions = sorted({view.condition for view in views})
    if condition is None and len(conditions) > 1:
        raise InputError(f"{folder}: pictures of {', '.join(conditions)}; choose one with --condition")
    if condition is not None and condition not in conditions:
        raise InputError(f"{folder}: no pictures of condition {condition}; there are {', '.join(conditions)}")
    chosen = [view for view in views if condition in (None, view.condition)]
    names = [view.case for view in chosen]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{folder}: case {name} has several files of pictures; remove all but one")
    return chosen


def read_view(file: Path) -> View:
    """One case's pictures.

    Raises:
        InputError: the file cannot be read, or is not what an evaluation writes.
    """
    try:
        with np.load(file, allow_pickle=False) as content:
            meta = json.loads(str(content["meta"]))
            stacks = {name: content[f"stack/{name}"] for name in meta["images"]}
        return _checked(file, meta, stacks)
    except InputError:
        raise
    except KeyError as error:
        # numpy says "stack/sr is not a file in the archive", a table of keys only "images".
        raise InputError(f"{file}: has no {str(error.args[0]).split(' is not ')[0]}; evaluate again") from error
    except (OSError, ValueError, TypeError, BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: not a readable file of pictures ({reason}); evaluate again") from error


def _checked(file: Path, meta: Mapping[str, Any], stacks: dict[str, np.ndarray]) -> View:
    plane = next((plane for plane in PLANES if plane.name == meta["stack_plane"]), None)
    if plane is None:
        raise InputError(f"{file}: stack_plane {meta['stack_plane']!r}; known are {[plane.name for plane in PLANES]}")
    if REFERENCE not in stacks:
        raise InputError(f"{file}: has no image 'hr'; evaluate again")
    for name, stack in stacks.items():
        if stack.dtype != np.uint8 or stack.ndim != 3 or stack.size == 0:
            raise InputError(f"{file}: stack/{name} is {stack.dtype} {stack.shape}; need uint8 (slices, rows, columns)")
        if len(stack) != len(stacks[REFERENCE]):
            raise InputError(f"{file}: stack/{name} has {len(stack)} slices, stack/hr {len(stacks[REFERENCE])}")
        if name != INPUT and stack.shape != stacks[REFERENCE].shape:
            # Readers would tell methods by the size of their pixels.
            raise InputError(
                f"{file}: stack/{name} is {stack.shape}, stack/hr {stacks[REFERENCE].shape}; need one grid"
            )
    pixel_mm = {
        name: _pixel_mm(file, "lr_spacing_mm" if name == INPUT else "spacing_mm", meta, plane) for name in stacks
    }
    return View(str(meta["case"]), str(meta["condition"]), plane, stacks, pixel_mm)


def _pixel_mm(file: Path, key: str, meta: Mapping[str, Any], plane: Plane) -> tuple[float, float]:
    """Height and width of a pixel in mm."""
    spacing = np.asarray(meta[key], dtype=float)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InputError(f"{file}: {key} {meta[key]}; need three positive numbers")
    return float(spacing[plane.up]), float(spacing[plane.across])


def chosen_methods(views: Sequence[View], methods: Sequence[str] | None) -> list[str]:
    """The methods to be read: those asked for, or all; every case must have each.

    Raises:
        InputError: a method is not there, or named twice; there is none.
    """
    wanted = list(methods) if methods is not None else views[0].methods
    if not wanted:
        raise InputError("no method to read; name some with --methods")
    for method in wanted:
        if wanted.count(method) > 1:
            raise InputError(f"--methods: {method} is named twice")
        if method in (INPUT, REFERENCE):
            raise InputError(f"--methods: {method} is no method; for a hidden reference there is --blind_hr")
        for view in views:
            if method not in view.methods:
                known = ", ".join(view.methods) or "none"
                raise InputError(f"--methods: case {view.case} has no pictures of {method}; there are {known}")
    return wanted


def subjects_of(run: str | Path) -> dict[str, str]:
    """Subject by case, as ``cases.json`` says; nothing where the run has no such file yet.

    Raises:
        InputError: the file is damaged.
    """
    rows = _cases_json(run).get("rows", [])
    return {str(row["case"]): str(row["subject"]) for row in rows if row.get("subject") is not None}


def baseline_of(run: str | Path) -> str | None:
    """The method that the evaluation compared the others with; None where the run does not say."""
    baseline = _cases_json(run).get("baseline")
    return None if baseline is None else str(baseline)


def _cases_json(run: str | Path) -> dict[str, Any]:
    file = Path(run) / "cases.json"
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not a table of keys")
        return content
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); evaluate again") from error
