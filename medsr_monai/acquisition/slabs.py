"""The projection onto the measurement of an image that is never held whole: two passes over its slabs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from medsr_monai.acquisition.separable import SeparableAcquisition, apply_matrix
from medsr_monai.errors import InputError

# Entries below this share of a matrix's largest are the rounding errors of its decomposition.
_NEGLIGIBLE = 1e-12
_BLOCK_ROWS = 32


@dataclass(frozen=True)
class _Band:
    """Some rows of a matrix, and the only columns where they are not zero."""

    rows: slice
    columns: slice
    matrix: Tensor


class _BandedMatrix:
    """A matrix (M, N) that is multiplied where it is not zero, and only there.

    Averages over neighbouring voxels touch few columns per row: as a dense product they would cost as much as a
    convolution with a kernel of the length of the axis.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.shape = tuple(matrix.shape)
        self._matrix = torch.where(matrix.abs() > _NEGLIGIBLE * matrix.abs().max(), matrix, 0.0)
        n = self.shape[0]
        self._is_identity = n == self.shape[1] and bool(torch.equal(self._matrix, torch.eye(n, dtype=matrix.dtype)))
        self._bands = [self._band(slice(i, min(i + _BLOCK_ROWS, n))) for i in range(0, n, _BLOCK_ROWS)]
        worth = sum(band.matrix.numel() for band in self._bands) < 0.5 * self._matrix.numel()
        if not worth:
            self._bands = [self._band(slice(0, n))]

    def _band(self, rows: slice) -> _Band:
        touched = (self._matrix[rows] != 0).any(dim=0).nonzero().flatten().tolist()
        columns = slice(touched[0], touched[-1] + 1) if touched else slice(0, 1)
        return _Band(rows, columns, self._matrix[rows, columns].float())

    def apply(self, image: Tensor, axis: int) -> Tensor:
        """Multiply an axis of (1, 1, *spatial), N voxels long, by the whole matrix."""
        if self._is_identity:
            return image
        parts = [
            apply_matrix(band.matrix.to(image.device), image.narrow(axis + 2, *_start_length(band.columns)), axis)
            for band in self._bands
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis + 2)

    def columns(self, columns: slice) -> _Band:
        """Some columns, and the only rows where they are not zero."""
        touched = (self._matrix[:, columns] != 0).any(dim=1).nonzero().flatten().tolist()
        rows = slice(touched[0], touched[-1] + 1) if touched else slice(0, 1)
        return _Band(rows, columns, self._matrix[rows, columns].float())

    def rows(self, rows: slice) -> _Band:
        """Some rows, and the only columns where they are not zero."""
        return self._band(rows)


def _start_length(part: slice) -> tuple[int, int]:
    return part.start, part.stop - part.start


class SlabProjection:
    """``sr + A^+ (lr - A sr)`` for an image that comes, and comes again, in slabs along one axis.

    First pass: :meth:`subtract` every slab of the image and :meth:`add` every slab of the measurement, in any order;
    the residual ``lr - A sr`` gathers on the low-resolution grid. Then :meth:`solve` it. Second pass: add
    :meth:`correction` to each slab. Slabs may differ from pass to pass. Only low-resolution images are held.

    Each matrix ``A_i = U S V^T`` enters the correction as its polar factor ``W = V U^T``: its columns are orthonormal,
    so nothing is amplified, and where ``A_i`` averages whole voxels, ``W`` only repeats them.

    Args:
        acquisition: the measurement, one matrix per axis (none per image of a batch).
        axis: spatial axis along which the slabs come.
        regularisation: Tikhonov damping as in :meth:`SeparableAcquisition.pseudo_inverse`; 0 is exact.

    Raises:
        InputError: no such axis, matrices per image, or a negative damping.
    """

    def __init__(self, acquisition: SeparableAcquisition, axis: int, regularisation: float = 0.0) -> None:
        if not 0 <= axis < len(acquisition.matrices):
            raise InputError(f"axis {axis}: the acquisition has the axes 0 to {len(acquisition.matrices) - 1}")
        if any(matrix.ndim != 2 for matrix in acquisition.matrices):
            raise InputError("slabs: matrices (n_lr, n_hr) are needed, not one per image; project each image by itself")
        if not regularisation >= 0:
            raise InputError(f"regularisation {regularisation}: must not be negative")
        self.acquisition = acquisition
        self.axis = axis
        self.regularisation = regularisation
        u, _, vt = acquisition.decomposition()
        self._forward = [_BandedMatrix(matrix.double()) for matrix in acquisition.matrices]
        self._spread = [_BandedMatrix(v.mT @ basis.mT) for basis, v in zip(u, vt, strict=True)]
        self._residual: Tensor | None = None
        self._seen = {"image": 0, "measurement": 0}
        self._is_solved = False

    def _other_axes(self) -> Iterator[int]:
        return (axis for axis in range(len(self._forward)) if axis != self.axis)

    def _gathered(self, like: Tensor) -> Tensor:
        if self._is_solved:
            raise ValueError("the residual is solved already: gather another one with a new SlabProjection")
        if self._residual is None:
            self._residual = torch.zeros((1, 1, *self.acquisition.lr_shape), device=like.device)
        return self._residual

    def _check(self, start: int, slab: Tensor, shape: tuple[int, ...], what: str) -> slice:
        stop = start + slab.shape[self.axis + 2] if slab.ndim == len(shape) + 2 else start
        expected = (1, 1, *(n if axis != self.axis else stop - start for axis, n in enumerate(shape)))
        if tuple(slab.shape) != expected or not 0 <= start < stop <= shape[self.axis]:
            raise InputError(f"{what}: a slab {tuple(slab.shape)} at {start} of axis {self.axis} is none of {shape}")
        self._seen[what] += stop - start
        return slice(start, stop)

    def subtract(self, start: int, slab: Tensor) -> None:
        """Take what a slab contributes to the measurement, ``A sr``, from the residual.

        Args:
            start: its first slice along the axis.
            slab: (1, 1, *spatial), float32, whole along the other axes.
        """
        part = self._check(start, slab, self.acquisition.hr_shape, "image")
        band = self._forward[self.axis].columns(part)
        measured = apply_matrix(band.matrix.to(slab.device), slab.float(), self.axis)
        for axis in self._other_axes():
            measured = self._forward[axis].apply(measured, axis)
        residual = self._gathered(slab)
        residual.narrow(self.axis + 2, *_start_length(band.rows)).sub_(measured.to(residual.device))

    def add(self, start: int, slab: Tensor) -> None:
        """Add a slab of the measurement to the residual.

        Args:
            start: its first slice along the axis.
            slab: (1, 1, *spatial), float32, on the low-resolution grid.
        """
        part = self._check(start, slab, self.acquisition.lr_shape, "measurement")
        residual = self._gathered(slab)
        residual.narrow(self.axis + 2, *_start_length(part)).add_(slab.to(residual))

    def solve(self) -> None:
        """Turn the residual into the coefficients of the correction, ``U f(S) U^T (lr - A sr)``.

        Raises:
            ValueError: slices of the image or of the measurement are missing, or came twice.
        """
        shapes = {"image": self.acquisition.hr_shape, "measurement": self.acquisition.lr_shape}
        for what, shape in shapes.items():
            if self._seen[what] != shape[self.axis]:
                raise ValueError(f"{what}: {self._seen[what]} slices of {shape[self.axis]} came in")
        assert self._residual is not None
        self._residual = self.acquisition.filtered(self._residual, self.regularisation)
        self._is_solved = True

    def correction(self, start: int, stop: int) -> Tensor:
        """``A^+ (lr - A sr)`` for some slices.

        Args:
            start: first slice along the axis, on the high-resolution grid.
            stop: one past the last.

        Returns:
            (1, 1, *spatial), float32.
        """
        if not self._is_solved or self._residual is None:
            raise ValueError("call solve() first")
        band = self._spread[self.axis].rows(slice(start, stop))
        near = self._residual.narrow(self.axis + 2, *_start_length(band.columns))
        image = apply_matrix(band.matrix.to(near.device), near, self.axis)
        for axis in self._other_axes():
            image = self._spread[axis].apply(image, axis)
        return image
