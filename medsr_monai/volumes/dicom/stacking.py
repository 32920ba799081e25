"""Stack image planes to a volume: their order, duplicates, gaps, and the affine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.members import Opener
from medsr_monai.volumes.dicom.planes import TRAITS, Plane
from medsr_monai.volumes.dicom.volume import DicomVolume

SPACING_TOLERANCE = 0.05
"""How far a slice may lie from its place along the stack, in slice distances."""

SHIFT_TOLERANCE = 0.1
"""How far it may lie from its place within its plane, in pixels."""

_ORIENTATION_TOLERANCE = 5e-4  # of direction cosines: a quarter of a pixel at the far end of 512
_SAME_PLACE_MM = 0.01
_TILT_DEGREES = 0.05  # below that it is rounding
_MOST_FILLED = 4  # an even grid of more than this many times the slices there are is made up
_SHOWN = 6
_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def stack_planes(planes: Sequence[Plane], name: Path, uneven: str = "refuse") -> DicomVolume:
    """Stack the planes of a series, which come in any order.

    Args:
        name: of the series, to begin messages with.
        uneven: "refuse" uneven spacing and missing slices, or "resample" them onto an even grid.

    Raises:
        InputError: planes that are no one stack.
    """
    images = [plane for plane in planes if not plane.is_localizer]
    kept = images or planes
    left_out = len(planes) - len(kept)
    notes = [f"{left_out} localizer image{'s' * (left_out > 1)} left out"] if left_out else []
    _check_alike(kept, name)
    along = np.array([plane.position @ kept[0].normal for plane in kept])
    ordered = [kept[k] for k in np.argsort(along, kind="stable")]
    single, dropped = _without_duplicates(ordered, name)
    stacked = _even(single, name) if uneven == "refuse" or _is_even(single) else _resampled(single, name)
    return replace(stacked, notes=(*notes, *dropped, *_tilt_note(stacked.grid), *stacked.notes))


def _check_alike(planes: Sequence[Plane], name: Path) -> None:
    first = planes[0]
    for plane in planes[1:]:
        difference = None
        if plane.size != first.size:
            difference = "size"
        elif not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3):
            difference = "PixelSpacing"
        elif np.abs([plane.row - first.row, plane.column - first.column]).max() > _ORIENTATION_TOLERANCE:
            difference = "orientation"
        if difference:
            raise InputError(
                f"{name}: {plane.name} and {first.name} differ in {difference}, so they are no one volume; "
                "give the images of one stack only"
            )


def _without_duplicates(ordered: Sequence[Plane], name: Path) -> tuple[list[Plane], list[str]]:
    """Drop copies; planes at one place that are no copies are refused."""
    kept = [ordered[0]]
    with Opener() as opener:
        for plane in ordered[1:]:
            if abs((plane.position - kept[-1].position) @ plane.normal) >= _SAME_PLACE_MM:
                kept.append(plane)
            elif not _same_image(plane, kept[-1], opener):
                keywords = [keyword for keyword in TRAITS if plane.traits.get(keyword) != kept[-1].traits.get(keyword)]
                what = f"differ in {' and '.join(keywords[:2])}" if keywords else "have other pixels"
                raise InputError(
                    f"{name}: two images at one position ({plane.name} and {kept[-1].name}) {what}; give only the "
                    "images of one of them"
                )
    dropped = len(ordered) - len(kept)
    return kept, [f"{dropped} duplicate image{'s' * (dropped > 1)} dropped"] if dropped else []


def _same_image(a: Plane, b: Plane, opener: Opener) -> bool:
    if np.linalg.norm(a.position - b.position) > _SAME_PLACE_MM or (a.slope, a.inter) != (b.slope, b.inter):
        return False
    if a.uid == b.uid and a.frame == b.frame:
        return True
    return np.array_equal(a.pixels.read(a.frame, opener), b.pixels.read(b.frame, opener))


def _grid(planes: Sequence[Plane], step: np.ndarray, n: int) -> Grid:
    first = planes[0]
    affine = np.eye(4)
    columns = (first.row * first.spacing_mm[0], first.column * first.spacing_mm[1], step, first.position)
    affine[:3] = _TO_RAS @ np.stack(columns, axis=1)
    return Grid((*first.size, n), affine)


def _deviations(planes: Sequence[Plane], share: np.ndarray) -> tuple[float, float]:
    """The most that planes are off their shares of the way from the first to the last: in mm along the stack, and in
    pixels across it."""
    positions, first = np.stack([plane.position for plane in planes]), planes[0]
    off = positions - (positions[0] + share[:, None] * (positions[-1] - positions[0]))
    across = off @ np.stack([first.row, first.column], axis=1) / first.spacing_mm
    return float(np.abs(off @ first.normal).max()), float(np.abs(across).max())


def _is_even(planes: Sequence[Plane]) -> bool:
    if len(planes) < 3:
        return True
    along, across = _deviations(planes, np.linspace(0, 1, len(planes)))
    distance = abs((planes[-1].position - planes[0].position) @ planes[0].normal) / (len(planes) - 1)
    return along <= SPACING_TOLERANCE * distance and across <= SHIFT_TOLERANCE


def _even(planes: list[Plane], name: Path) -> DicomVolume:
    if len(planes) == 1:
        if planes[0].thickness_mm is None:
            raise InputError(f"{name}: one slice without SliceThickness, so it is no volume; add the thickness")
        return DicomVolume(name, tuple(planes), _grid(planes, planes[0].thickness_mm * planes[0].normal, 1))
    if not _is_even(planes):
        raise InputError(f"{name}: {_unevenness(planes)}; find the missing slices, or resample (--uneven resample)")
    step = (planes[-1].position - planes[0].position) / (len(planes) - 1)
    return DicomVolume(name, tuple(planes), _grid(planes, step, len(planes)))


def _unevenness(planes: Sequence[Plane]) -> str:
    along = np.array([plane.position @ planes[0].normal for plane in planes])
    gaps = np.diff(along)
    usual = _usual_gap(gaps)
    odd = [k for k, gap in enumerate(gaps) if abs(gap - usual) > SPACING_TOLERANCE * usual]
    if not odd:
        return "slices that are shifted sideways against each other"
    shown = ", ".join(f"{along[k]:.2f} to {along[k + 1]:.2f}" for k in odd[:_SHOWN])
    more = f" and {len(odd) - _SHOWN} more" if len(odd) > _SHOWN else ""
    return f"slices {usual:.3f} mm apart, but not from {shown} mm{more} along the stack"


def _usual_gap(gaps: np.ndarray) -> float:
    """The distance of slices: the smallest where all are multiples of it, as some are missing; else the median."""
    least = float(gaps.min())
    multiples = np.rint(gaps / least)
    if (np.abs(gaps - multiples * least) <= SPACING_TOLERANCE * least).all():
        return float((gaps / multiples).mean())
    return float(np.median(gaps))


def _resampled(planes: list[Plane], name: Path) -> DicomVolume:
    """The even grid from the first to the last slice, at their usual distance."""
    along = np.array([plane.position @ planes[0].normal for plane in planes])
    span = along[-1] - along[0]
    n = max(2, math.floor(span / _usual_gap(np.diff(along)) + 0.5) + 1)
    if n > _MOST_FILLED * len(planes):
        raise InputError(f"{name}: {len(planes)} slices for {n} places; most of the volume is missing")
    _, across = _deviations(planes, (along - along[0]) / span)  # anywhere along the line, but not beside it
    if across > SHIFT_TOLERANCE:
        raise InputError(f"{name}: slices are shifted sideways against each other by {across:.2g} pixels; cannot stack")
    step = (planes[-1].position - planes[0].position) / (n - 1)
    places = np.interp(np.linspace(along[0], along[-1], n), along, np.arange(len(planes)))
    note = f"{len(planes)} unevenly spaced slices resampled to {n}, {span / (n - 1):.4g} mm apart (linear)"
    return DicomVolume(name, tuple(planes), _grid(planes, step, n), places, (note,))


def _tilt_note(grid: Grid) -> list[str]:
    row, column, step = (grid.affine[:3, axis] / grid.spacing_mm[axis] for axis in range(3))
    angle = math.degrees(math.acos(min(1.0, abs(float(np.cross(row, column) @ step)))))
    return [f"slices tilted by {angle:.2f} degrees, kept as a sheared grid"] if angle > _TILT_DEGREES else []
