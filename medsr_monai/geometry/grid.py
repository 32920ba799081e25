"""Voxel grids: the position of an image in the patient, and how resizing and reorienting change it.

All affines map voxel indices (i, j, k), counted at voxel centres, to RAS millimetres. Arrays are in nibabel's order
(X, Y, Z). Some functions accept leading channel axes and say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, cast

import numpy as np
import torch
from nibabel import orientations

from medsr_monai.system.errors import InputError

Scale: TypeAlias = float | Sequence[float]
"""One factor for all axes, or one per axis."""

Orientation: TypeAlias = str | Sequence[str] | np.ndarray
"""Axis codes such as "RAS" or ("L", "P", "S"), or a nibabel orientation array (3, 2)."""

Array = TypeVar("Array", np.ndarray, torch.Tensor)

N_AXES = 3
_AXIS_LABELS = ("LR", "PA", "IS")

# Smallest volume of a voxel, as a share of the box with the same edge lengths. Below it, the affine is singular up to
# the float32 rounding of a NIfTI header.
_LEAST_VOLUME_SHARE = 1e-6


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) != N_AXES:
        raise InputError(f"shape {tuple(shape)}: {len(shape)} axes, but need {N_AXES}")
    for axis, n in enumerate(shape):
        if not float(n).is_integer() or n < 1:
            raise InputError(f"axis {axis}: {n} voxels, but a grid needs a whole number of at least 1")
    return tuple(int(n) for n in shape)


def _checked_affine(affine: np.ndarray) -> np.ndarray:
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (N_AXES + 1, N_AXES + 1):
        raise InputError(f"affine: shape {matrix.shape}, but it must be (4, 4)")
    if not np.isfinite(matrix).all():
        raise InputError("affine: has NaN or Inf, but its numbers must be finite")
    if not np.array_equal(matrix[-1], (0, 0, 0, 1)):
        raise InputError(f"affine: last row {matrix[-1].tolist()}, but a voxel -> mm mapping ends with 0, 0, 0, 1")
    edges = matrix[:N_AXES, :N_AXES]
    lengths = np.linalg.norm(edges, axis=0)
    if not (lengths > 0).all() or abs(np.linalg.det(edges / lengths)) < _LEAST_VOLUME_SHARE:
        raise InputError("affine: cannot be inverted; need three independent axes with a spacing above 0")
    matrix.flags.writeable = False
    return matrix


def _per_axis(scale: Scale) -> tuple[float, ...]:
    factors = (scale,) * N_AXES if isinstance(scale, int | float | np.number) else tuple(scale)
    if len(factors) != N_AXES:
        raise InputError(f"scale {factors}: must be one number or {N_AXES}")
    for axis, factor in enumerate(factors):
        if not (isinstance(factor, int | float | np.number) and math.isfinite(factor) and factor > 0):
            raise InputError(f"axis {axis}: scale {factor} must be a positive number")
    return tuple(float(factor) for factor in factors)


def _rounded_size(n: float) -> int:
    # Halves go up on every axis. Python's round() gives 2 for 2.5 but 4 for 3.5.
    return max(1, math.floor(n + 0.5))


def parse_orientation(target: Orientation) -> np.ndarray:
    """Read axis codes or an orientation array.

    Args:
        target: axis codes, e.g. "RAS" or ("L", "P", "S"), or an array (3, 2) of (output axis, flip +-1) per input axis.

    Returns:
        The orientation array (3, 2), as nibabel defines it.

    Raises:
        InputError: the codes or the array do not name each of the three axes once.
    """
    if isinstance(target, np.ndarray) and target.ndim == 2:
        valid = target.shape == (N_AXES, 2) and sorted(target[:, 0]) == [0, 1, 2] and set(target[:, 1]) <= {-1, 1}
        if not valid:
            raise InputError(f"orientation array: shape {target.shape}, but need 3 rows (axis, +-1), each axis once")
        return target.astype(np.float64)
    codes = tuple(str(code).upper() for code in target)
    axes = [
        next((a for a, label in enumerate(_AXIS_LABELS) if len(code) == 1 and code in label), None) for code in codes
    ]
    if len(codes) != N_AXES or set(axes) != {0, 1, 2}:
        raise InputError(f"axis codes {''.join(codes)}: need one each of L/R, P/A and I/S, e.g. RAS")
    return cast(np.ndarray, orientations.axcodes2ornt(codes))


def reorient(array: Array, ornt: np.ndarray) -> Array:
    """Permute and flip the last three axes of an array; a numpy array is not copied.

    The affine of a MetaTensor is not changed: `Grid.reoriented` computes the new one.

    Args:
        array: (..., X, Y, Z), numpy or torch.
        ornt: (3, 2), from `Grid.orientation_to`, `parse_orientation` or `inverse_orientation`.

    Returns:
        The reoriented array, (..., X', Y', Z').

    Raises:
        InputError: the array has fewer than three axes, or the orientation is invalid.
    """
    ornt = parse_orientation(np.asarray(ornt))
    n_leading: int = array.ndim - N_AXES
    if n_leading < 0:
        raise InputError(f"array: shape {tuple(array.shape)}, but need (..., X, Y, Z)")
    order = [*range(n_leading), *(n_leading + int(axis) for axis in np.argsort(ornt[:, 0]))]
    flipped = [n_leading + axis for axis in range(N_AXES) if ornt[axis, 1] < 0]
    if isinstance(array, torch.Tensor):
        return torch.flip(array, flipped).permute(order)
    return np.flip(array, tuple(flipped)).transpose(order)


def inverse_orientation(ornt: np.ndarray) -> np.ndarray:
    """Invert an orientation (3, 2), so that `reorient(reorient(x, ornt), inverse_orientation(ornt))` is x."""
    ornt = parse_orientation(np.asarray(ornt))
    order = np.argsort(ornt[:, 0])
    return np.stack([order, ornt[order, 1]], axis=1)


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of voxels in the patient.

    Args:
        shape: voxels along (X, Y, Z).
        affine: (4, 4), voxel indices at voxel centres -> RAS mm; kept as a read-only float64 copy.

    Raises:
        InputError: the shape is not three positive sizes, or the affine is not finite or cannot be inverted.
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _checked_shape(self.shape))
        object.__setattr__(self, "affine", _checked_affine(self.affine))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        # Equal affines may have different bytes (0.0 and -0.0); adding zero makes the bytes equal.
        return hash((self.shape, (self.affine + 0.0).tobytes()))

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbouring voxel centres along each axis, in mm."""
        return tuple(float(length) for length in np.linalg.norm(self.affine[:N_AXES, :N_AXES], axis=0))

    @property
    def orientation(self) -> np.ndarray:
        """The closest orientation array (3, 2), relative to RAS."""
        return cast(np.ndarray, orientations.io_orientation(self.affine))

    @property
    def axcodes(self) -> tuple[str, ...]:
        """The closest axis codes, e.g. ("L", "P", "S")."""
        return tuple(str(code) for code in orientations.ornt2axcodes(self.orientation))

    @property
    def corners_mm(self) -> np.ndarray:
        """The eight corners of the field of view at the outer voxel edges, (8, 3) in RAS mm, last axis fastest."""
        ends = [(-0.5, n - 0.5) for n in self.shape]
        indices = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, N_AXES)
        return cast(np.ndarray, indices @ self.affine[:N_AXES, :N_AXES].T + self.affine[:N_AXES, N_AXES])

    def resized(self, shape: Sequence[int]) -> Grid:
        """Cover exactly the same field of view with another number of voxels.

        i_old = (i_new + 1/2) n_old / n_new - 1/2. The outer edges stay in place, so the first centre moves by half the
        difference of the voxel sizes.

        Args:
            shape: the new number of voxels along (X, Y, Z).
        """
        shape = _checked_shape(shape)
        factors = np.array(self.shape, dtype=np.float64) / np.array(shape)
        step = np.diag([*factors, 1.0])
        step[:N_AXES, N_AXES] = 0.5 * (factors - 1)
        return Grid(shape, self.affine @ step)

    def upscaled(self, scale: Scale) -> Grid:
        """Cover the same field of view with `scale` times as many voxels, rounded (halves up), at least 1.

        Args:
            scale: one factor or one per axis, any positive number.
        """
        return self.resized([_rounded_size(n * f) for n, f in zip(self.shape, _per_axis(scale), strict=True)])

    def downscaled(self, scale: Scale) -> Grid:
        """Cover the same field of view with `scale` times fewer voxels, rounded (halves up), at least 1."""
        return self.resized([_rounded_size(n / f) for n, f in zip(self.shape, _per_axis(scale), strict=True)])

    def orientation_to(self, target: Orientation) -> np.ndarray:
        """Find the permutation and flips that bring this grid closest to the target's axes.

        Args:
            target: axis codes, or an orientation array (3, 2) relative to RAS.

        Returns:
            An orientation array (3, 2), for `reorient` and `reoriented`.
        """
        return cast(np.ndarray, orientations.ornt_transform(self.orientation, parse_orientation(target)))

    def reoriented(self, target: Orientation) -> Grid:
        """Permute and flip the axes; every voxel keeps its position in the patient.

        Args:
            target: the axis codes to reach, or the transform itself, an array (3, 2) from `orientation_to`.

        Returns:
            The grid of `reorient(data, ornt)`.
        """
        is_transform = isinstance(target, np.ndarray) and target.ndim == 2
        ornt = parse_orientation(target) if is_transform else self.orientation_to(target)
        shape = [self.shape[int(axis)] for axis in np.argsort(ornt[:, 0])]
        return Grid(tuple(shape), self.affine @ orientations.inv_ornt_aff(ornt, self.shape))

    def canonical(self) -> tuple[Grid, np.ndarray]:
        """The grid in the axis order closest to RAS, and the orientation (3, 2) that `reorient` applies to the data."""
        ornt = self.orientation_to("RAS")
        return self.reoriented(ornt), ornt


def corner_error_mm(a: Grid, b: Grid) -> float:
    """Measure the largest distance in mm between corresponding corners of two fields of view: 0 for `a.resized(...)`.

    The axes must have the same order and direction; the numbers of voxels may differ.
    """
    return float(np.linalg.norm(a.corners_mm - b.corners_mm, axis=1).max())
