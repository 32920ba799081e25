"""The projection onto the measurement for an image that is never in memory as a whole: two passes over its slabs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medsr_monai.acquisition.separable import SeparableAcquisition, apply_matrix, spectral_filter
from medsr_monai.system.errors import InputError
from medsr_monai.system.scratch import SliceFile, SliceMemory, cut

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
        bands = _bands(matrix, _BLOCK_ROWS)
        worth = sum(band.matrix.numel() for band in bands) < 0.5 * n * m
        self._bands = bands if worth else _bands(matrix, n)
        self.is_identity = n == m and all(
            torch.equal(band.matrix, torch.eye(n)[band.rows, band.columns]) for band in self._bands
        )

    def apply(self, image: Tensor, axis: int, transposed: bool = False) -> Tensor:
        """Multiply an axis of (1, 1, *spatial) by the matrix, or by its transpose."""
        if self.is_identity:
            return image
        if not transposed:
            parts = [
                apply_matrix(band.matrix.to(image.device), _part(image, axis, band.columns), axis)
                for band in self._bands
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis + 2)
        size = [*image.shape]
        size[axis + 2] = self.shape[1]
        total = image.new_zeros(size)
        for band in self._bands:
            product = apply_matrix(band.matrix.mT.to(image.device), _part(image, axis, band.rows), axis)
            _part(total, axis, band.columns).add_(product)
        return total

    def _dense(self, rows: slice, columns: slice) -> Tensor:
        part = torch.zeros(rows.stop - rows.start, columns.stop - columns.start)
        for band in self._bands:
            own, into = zip(_overlap(band.rows, rows), _overlap(band.columns, columns), strict=True)
            part[into] = band.matrix[own]
        return part

    def columns(self, columns: slice) -> _Band:
        """Some columns, cut to the rows that are not zero."""
        rows, matrix = _cut(self._dense(slice(0, self.shape[0]), columns).mT)
        return _Band(rows, columns, matrix.mT)

    def rows(self, rows: slice) -> _Band:
        """Some rows, cut to the columns that are not zero."""
        return _Band(rows, *_cut(self._dense(rows, slice(0, self.shape[1]))))


def _bands(matrix: Tensor, thick: int) -> list[_Band]:
    """Cut a matrix into bands of rows; block by block, because a copy of the whole would take far more memory."""
    blocks = [slice(start, min(start + thick, len(matrix))) for start in range(0, len(matrix), thick)]
    threshold = _NEGLIGIBLE * max(float(matrix[rows].abs().max()) for rows in blocks)
    bands = []
    for rows in blocks:
        columns, block = _cut(torch.where(matrix[rows].abs() > threshold, matrix[rows], 0.0))
        bands.append(_Band(rows, columns, block.float()))
    return bands


def _cut(block: Tensor) -> tuple[slice, Tensor]:
    """The columns from the first to the last that is not zero, and the block cut to them."""
    touched = (block != 0).any(dim=0).nonzero().flatten().tolist() or [0]
    columns = slice(touched[0], touched[-1] + 1)
    return columns, block[:, columns]


def _overlap(own: slice, other: slice) -> tuple[slice, slice]:
    """What two ranges have in common, counted from the start of each."""
    start = max(own.start, other.start)
    stop = max(start, min(own.stop, other.stop))
    return slice(start - own.start, stop - own.start), slice(start - other.start, stop - other.start)


def _part(image: Tensor, axis: int, part: slice) -> Tensor:
    return image.narrow(axis + 2, part.start, part.stop - part.start)


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
        self.axis, self.regularisation = axis, regularisation
        self._others = [other for other in range(len(acquisition.matrices)) if other != axis]
        u, singular, vt = acquisition.decomposition()
        self._singular = [values.float() for values in singular]
        self._forward = [_BandedMatrix(matrix.double()) for matrix in acquisition.matrices]
        self._basis = [_BandedMatrix(basis) for basis in u]
        self._spread = [
            _BandedMatrix(v.mT if own.is_identity else v.mT @ basis.mT)
            for basis, v, own in zip(u, vt, self._basis, strict=True)
        ]
        self._residual = SliceMemory(self.lr_shape, axis) if scratch is None else scratch
        self._seen = {"image": 0, "measurement": 0}
        self._is_solved = False

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
        """
        part = self._check(start, slab, self.hr_shape, "image")
        band = self._forward[self.axis].columns(part)
        measured = apply_matrix(band.matrix.to(slab.device), slab.float(), self.axis)
        for axis in self._others:
            measured = self._forward[axis].apply(measured, axis)
        self._gather(band.rows.start, -measured)

    def add(self, start: int, slab: Tensor) -> None:
        """Add a slab of the measurement to the residual; the arguments are as for :meth:`subtract`."""
        self._check(start, slab, self.lr_shape, "measurement")
        self._gather(start, slab.float())

    def solve(self) -> None:
        """Turn the residual into the coefficients of the correction, ``U f(S) U^T (lr - A sr)``, block by block.

        Slabs transform the axes across. Then blocks of all slices transform the slab axis and apply the filter.
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
        axes = [axis for axis in self._others if not self._basis[axis].is_identity]
        for start, stop in cut(self.lr_shape, self.axis, _BLOCK_VOXELS) if axes else ():
            slab = self._residual.read(start, stop)
            for axis in axes:
                slab = self._basis[axis].apply(slab, axis, transposed)
            self._residual.write(start, slab)

    def _filter_along(self) -> None:
        """Multiply by ``U f(S) U^T`` along the slab axis, with the singular values of all axes in ``f``."""
        shape, basis = self.lr_shape, self._basis[self.axis]
        across, damping = self._others[0], torch.tensor(self.regularisation)
        for start, stop in cut(shape, across, _BLOCK_VOXELS):
            rows = slice(start, stop)
            block = self._residual.read(0, shape[self.axis], rows)
            block = basis.apply(block, self.axis, transposed=True)
            parts = [rows if axis == across else slice(None) for axis in range(len(shape))]
            block = block * spectral_filter(self._singular, parts, damping).to(block.device)
            self._residual.write(0, basis.apply(block, self.axis), rows)

    def correction(self, start: int, stop: int) -> Tensor:
        """Compute ``A^+ (lr - A sr)`` for the slices [start, stop) of the high-resolution grid, (1, 1, *spatial)."""
        if not self._is_solved:
            raise ValueError("call solve() first")
        band = self._spread[self.axis].rows(slice(start, stop))
        near = self._residual.read(band.columns.start, band.columns.stop)
        image = apply_matrix(band.matrix.to(near.device), near, self.axis)
        for axis in self._others:
            image = self._spread[axis].apply(image, axis)
        return image
