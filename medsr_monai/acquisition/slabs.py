"""The projection onto the measurement for an image that is never in memory as a whole: two passes over its slabs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medsr_monai.acquisition.separable import SeparableAcquisition, apply_matrix
from medsr_monai.system.errors import InputError
from medsr_monai.system.scratch import SliceFile, SliceMemory

# Entries below this share of a matrix's largest entry are rounding errors of its decomposition.
_NEGLIGIBLE = 1e-12
_BLOCK_ROWS = 32
_BLOCK_VOXELS = 1 << 20


@dataclass(frozen=True)
class _Band:
    """Some rows of a matrix, cut to the columns that are not zero."""

    rows: slice
    columns: slice
    matrix: Tensor


class _BandedMatrix:
    """A matrix (M, N) of which only the nonzero bands are kept and multiplied.

    Averages over neighbouring voxels have few nonzero columns per row. A dense product would cost as much as a
    convolution with a kernel of the length of the axis.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.shape = n, m = tuple(matrix.shape)
        # Block by block, because a copy of the whole matrix would take far more memory than the bands.
        threshold = _NEGLIGIBLE * max(float(matrix[i : i + _BLOCK_ROWS].abs().max()) for i in range(0, n, _BLOCK_ROWS))
        bands = [_band(matrix, slice(i, min(i + _BLOCK_ROWS, n)), threshold) for i in range(0, n, _BLOCK_ROWS)]
        worth = sum(band.matrix.numel() for band in bands) < 0.5 * n * m
        self._bands = bands if worth else [_band(matrix, slice(0, n), threshold)]
        self.is_identity = n == m and all(
            torch.equal(band.matrix, torch.eye(n)[band.rows, band.columns]) for band in self._bands
        )

    def apply(self, image: Tensor, axis: int, transposed: bool = False) -> Tensor:
        """Multiply an axis of (1, 1, *spatial) by the matrix, or by its transpose."""
        if self.is_identity:
            return image
        if transposed:
            return self._apply_transposed(image, axis)
        parts = [
            apply_matrix(band.matrix.to(image.device), image.narrow(axis + 2, *_start_length(band.columns)), axis)
            for band in self._bands
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis + 2)

    def _apply_transposed(self, image: Tensor, axis: int) -> Tensor:
        size = [*image.shape]
        size[axis + 2] = self.shape[1]
        total = image.new_zeros(size)
        for band in self._bands:
            product = apply_matrix(
                band.matrix.mT.to(image.device), image.narrow(axis + 2, *_start_length(band.rows)), axis
            )
            total.narrow(axis + 2, *_start_length(band.columns)).add_(product)
        return total

    def columns(self, columns: slice) -> _Band:
        """Some columns, cut to the rows that are not zero."""
        found = []
        for band in self._bands:
            first, last = max(columns.start, band.columns.start), min(columns.stop, band.columns.stop)
            if first < last:
                block = band.matrix.new_zeros(band.matrix.shape[0], columns.stop - columns.start)
                there = band.matrix[:, first - band.columns.start : last - band.columns.start]
                block[:, first - columns.start : last - columns.start] = there
                found.append((band.rows, block))
        if not found:
            return _Band(slice(0, 1), columns, torch.zeros(1, columns.stop - columns.start))
        rows = slice(found[0][0].start, found[-1][0].stop)
        # A band between two of these bands may be zero in these columns.
        matrix = torch.zeros(rows.stop - rows.start, columns.stop - columns.start)
        for own, block in found:
            matrix[own.start - rows.start : own.stop - rows.start] = block
        touched = (matrix != 0).any(dim=1).nonzero().flatten().tolist() or [0]
        matrix = matrix[touched[0] : touched[-1] + 1]
        return _Band(slice(rows.start + touched[0], rows.start + touched[-1] + 1), columns, matrix)

    def rows(self, rows: slice) -> _Band:
        """Some rows, cut to the columns that are not zero."""
        found = [band for band in self._bands if band.rows.start < rows.stop and rows.start < band.rows.stop]
        columns = slice(min(band.columns.start for band in found), max(band.columns.stop for band in found))
        matrix = torch.zeros(rows.stop - rows.start, columns.stop - columns.start)
        for band in found:
            first, last = max(rows.start, band.rows.start), min(rows.stop, band.rows.stop)
            where = slice(band.columns.start - columns.start, band.columns.stop - columns.start)
            matrix[first - rows.start : last - rows.start, where] = band.matrix[
                first - band.rows.start : last - band.rows.start
            ]
        return _Band(rows, columns, matrix)


def _band(matrix: Tensor, rows: slice, threshold: float) -> _Band:
    """Some rows of a matrix, cut to the columns with entries above a threshold."""
    block = matrix[rows]
    block = torch.where(block.abs() > threshold, block, 0.0)
    touched = (block != 0).any(dim=0).nonzero().flatten().tolist()
    columns = slice(touched[0], touched[-1] + 1) if touched else slice(0, 1)
    return _Band(rows, columns, block[:, columns].float())


def _start_length(part: slice) -> tuple[int, int]:
    return part.start, part.stop - part.start


class SlabProjection:
    """Project an image in two passes over its slabs along one axis: ``sr + A^+ (lr - A sr)``.

    First pass: :meth:`subtract` every slab of the image and :meth:`add` every slab of the measurement, in any order.
    The residual ``lr - A sr`` accumulates on the low-resolution grid. Then :meth:`solve` it. Second pass: add
    :meth:`correction` to each slab. The two passes may use different slabs. Memory holds one low-resolution image; with
    ``scratch``, it holds none.

    The correction uses each matrix ``A_i = U S V^T`` through its polar factor ``W = V U^T``. The columns of ``W`` are
    orthonormal, so it amplifies nothing. If ``A_i`` averages whole voxels, ``W`` only repeats them.

    Args:
        acquisition: the measurement, with one matrix per axis for all images.
        axis: spatial axis that the slabs cut.
        regularisation: Tikhonov damping as in :meth:`SeparableAcquisition.pseudo_inverse`; 0 is exact.
        scratch: a file of zeros for the residual, with the low-resolution shape and the same axis; None for memory.

    Raises:
        InputError: the axis does not exist, the matrices are per image, or the damping is negative.
    """

    def __init__(
        self,
        acquisition: SeparableAcquisition,
        axis: int,
        regularisation: float = 0.0,
        scratch: SliceFile | None = None,
    ) -> None:
        if not 0 <= axis < len(acquisition.matrices):
            raise InputError(f"axis {axis}: the acquisition has the axes 0 to {len(acquisition.matrices) - 1}")
        if any(matrix.ndim != 2 for matrix in acquisition.matrices):
            raise InputError("slabs: need matrices (n_lr, n_hr), not one per image; project each image by itself")
        if not regularisation >= 0:
            raise InputError(f"regularisation {regularisation}: must be 0 or more")
        # The dense matrices are not kept: for an axis of thousands of slices they would take most of the memory.
        self.hr_shape, self.lr_shape = acquisition.hr_shape, acquisition.lr_shape
        self.axis = axis
        self.regularisation = regularisation
        u, self._singular, vt = acquisition.decomposition()
        self._forward = [_BandedMatrix(matrix.double()) for matrix in acquisition.matrices]
        self._basis = [_BandedMatrix(basis) for basis in u]
        self._spread = [
            _BandedMatrix(v.mT if own.is_identity else v.mT @ basis.mT)
            for basis, v, own in zip(u, vt, self._basis, strict=True)
        ]
        self._residual = SliceMemory(self.lr_shape, axis) if scratch is None else scratch
        self._seen = {"image": 0, "measurement": 0}
        self._is_solved = False

    def _other_axes(self) -> Iterator[int]:
        return (axis for axis in range(len(self._forward)) if axis != self.axis)

    def _check(self, start: int, slab: Tensor, shape: tuple[int, ...], what: str) -> slice:
        if self._is_solved:
            raise ValueError("the residual is already solved; use a new SlabProjection for another image")
        stop = start + slab.shape[self.axis + 2] if slab.ndim == len(shape) + 2 else start
        expected = (1, 1, *(n if axis != self.axis else stop - start for axis, n in enumerate(shape)))
        if tuple(slab.shape) != expected or not 0 <= start < stop <= shape[self.axis]:
            raise InputError(
                f"{what}: slab {tuple(slab.shape)} at slice {start} does not fit {shape} along axis {self.axis}"
            )
        self._seen[what] += stop - start
        return slice(start, stop)

    def _gather(self, start: int, slab: Tensor) -> None:
        """Add to the residual."""
        before = self._residual.read(start, start + slab.shape[self.axis + 2])
        self._residual.write(start, slab + before.to(slab.device))

    def subtract(self, start: int, slab: Tensor) -> None:
        """Subtract a slab's part of the measurement, ``A sr``, from the residual.

        Args:
            start: its first slice along the axis.
            slab: (1, 1, *spatial), float32, whole along the other axes.

        Raises:
            InputError: the slab does not fit the image.
        """
        part = self._check(start, slab, self.hr_shape, "image")
        band = self._forward[self.axis].columns(part)
        measured = apply_matrix(band.matrix.to(slab.device), slab.float(), self.axis)
        for axis in self._other_axes():
            measured = self._forward[axis].apply(measured, axis)
        self._gather(band.rows.start, -measured)

    def add(self, start: int, slab: Tensor) -> None:
        """Add a slab of the measurement to the residual.

        Args:
            start: its first slice along the axis.
            slab: (1, 1, *spatial), float32, on the low-resolution grid.

        Raises:
            InputError: the slab does not fit the measurement.
        """
        self._check(start, slab, self.lr_shape, "measurement")
        self._gather(start, slab.float())

    def solve(self) -> None:
        """Turn the residual into the coefficients of the correction, ``U f(S) U^T (lr - A sr)``, block by block.

        Slabs transform the axes across. Then blocks of all slices transform the slab axis and apply the filter.

        Raises:
            ValueError: slices of the image or of the measurement are missing, or were given twice.
        """
        shapes = {"image": self.hr_shape, "measurement": self.lr_shape}
        for what, shape in shapes.items():
            if self._seen[what] != shape[self.axis]:
                raise ValueError(f"{what}: {self._seen[what]} slices were given, but it has {shape[self.axis]}")
        self._turn_across(transposed=True)
        self._filter_along()
        self._turn_across(transposed=False)
        self._is_solved = True

    def _turn_across(self, transposed: bool) -> None:
        """Multiply by U^T, or by U, along all axes but the slab axis."""
        axes = [axis for axis in self._other_axes() if not self._basis[axis].is_identity]
        for start, stop in _blocks(self.lr_shape, self.axis) if axes else ():
            slab = self._residual.read(start, stop)
            for axis in axes:
                slab = self._basis[axis].apply(slab, axis, transposed)
            self._residual.write(start, slab)

    def _filter_along(self) -> None:
        """Multiply by ``U f(S) U^T`` along the slab axis, with the singular values of all axes in ``f``."""
        shape, basis = self.lr_shape, self._basis[self.axis]
        across = next(self._other_axes(), None)
        ranges = [(0, 1)] if across is None else _blocks(shape, across)
        for start, stop in ranges:
            rows = slice(start, stop)
            block = self._residual.read(0, shape[self.axis], rows)
            block = basis.apply(block, self.axis, transposed=True)
            parts = [rows if axis == across else slice(None) for axis in range(len(shape))]
            block = block * self._filter(parts).to(block.device)
            self._residual.write(0, basis.apply(block, self.axis), rows)

    def _filter(self, parts: Sequence[slice]) -> Tensor:
        return SeparableAcquisition.spectral_filter(self._singular, parts, self.regularisation)

    def correction(self, start: int, stop: int) -> Tensor:
        """Compute ``A^+ (lr - A sr)`` for some slices.

        Args:
            start: first slice along the axis, on the high-resolution grid.
            stop: one past the last.

        Returns:
            (1, 1, *spatial), float32.

        Raises:
            ValueError: the residual is not solved yet.
        """
        if not self._is_solved:
            raise ValueError("call solve() first")
        band = self._spread[self.axis].rows(slice(start, stop))
        near = self._residual.read(band.columns.start, band.columns.stop)
        image = apply_matrix(band.matrix.to(near.device), near, self.axis)
        for axis in self._other_axes():
            image = self._spread[axis].apply(image, axis)
        return image


def _blocks(shape: Sequence[int], axis: int) -> list[tuple[int, int]]:
    """Cut an axis into ranges, so that each part of the image has a bounded size."""
    n = shape[axis]
    thick = max(1, n * _BLOCK_VOXELS // math.prod(shape))
    return [(start, min(start + thick, n)) for start in range(0, n, thick)]
