"""A linear measurement with one matrix per axis: forward, adjoint, pseudo-inverse, projection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from medsr_monai.acquisition.profiles import profile_matrix
from medsr_monai.system.errors import InputError

# Singular values below this share of the largest one count as not measured: their inverse would only amplify rounding
# errors.
RELATIVE_CUTOFF = 1e-6
_FILTER_VOXELS = 1 << 22


def apply_matrix(matrix: Tensor, image: Tensor, axis: int) -> Tensor:
    """Multiply one spatial axis of ``image`` by ``matrix``.

    Args:
        matrix: (M, N), or (B, M, N) with one matrix per image.
        image: (B, C, *spatial) with N voxels along the axis.
        axis: which spatial axis, from 0.

    Returns:
        (B, C, *spatial) with M voxels along the axis.

    Raises:
        InputError: the matrix and the image differ in voxels along the axis, or in batch size.
    """
    dim = axis + 2
    if image.shape[dim] != matrix.shape[-1]:
        raise InputError(f"axis {axis}: {image.shape[dim]} voxels, but the operator was made for {matrix.shape[-1]}")
    if matrix.ndim == 3 and matrix.shape[0] != image.shape[0]:
        raise InputError(f"axis {axis}: {image.shape[0]} images, but the operator has matrices for {matrix.shape[0]}")
    shape = image.shape
    after = math.prod(shape[dim + 1 :])
    # Autocast would round the products to half precision, but the physics is a constraint, not a layer.
    with torch.autocast(image.device.type, enabled=False):
        if matrix.ndim == 3:
            # (B, 1, M, N) @ (B, before, N, after): one product per image
            product = matrix[:, None] @ image.reshape(shape[0], -1, shape[dim], after)
        elif after == 1:
            product = image.reshape(-1, shape[dim]) @ matrix.mT
        else:
            product = matrix @ image.reshape(-1, shape[dim], after)
    return product.reshape(*shape[:dim], matrix.shape[-2], *shape[dim + 1 :])


def _decomposed_matrix(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and V^T of (..., M, N). If the rows are orthogonal, as for averages over whole voxels, U is the identity.

    The general decomposition would mix distant slices, and takes minutes for axes of thousands of voxels.
    """
    if matrix.ndim == 2:
        products = matrix @ matrix.mT
        squares = products.diagonal().clone()
        mixed = float(products.fill_diagonal_(0.0).abs_().max())
        del products  # tens of MB for an axis of thousands of voxels
        if bool((squares > 0).all()) and mixed <= 1e-15 * float(squares.max()):
            values = squares.sqrt()
            return torch.eye(len(values), dtype=matrix.dtype, device=matrix.device), values, matrix / values[:, None]
    return tuple(torch.linalg.svd(matrix, full_matrices=False))


def _outer_product(singular: list[Tensor]) -> Tensor:
    """The outer product of the axes' singular values, (1 or B, 1, *shape)."""
    axes = len(singular)
    placed = [v.reshape(-1, 1, *[1] * axis, v.shape[-1], *[1] * (axes - axis - 1)) for axis, v in enumerate(singular)]
    return reduce(torch.mul, placed)


def spectral_filter(singular: Sequence[Tensor], parts: Sequence[slice], damping: Tensor) -> Tensor:
    """The factor ``s / (s^2 + damping)`` of the pseudo-inverse for a part of the spectrum ``U^T lr``.

    Args:
        singular: singular values of every axis, (n_lr,) or (B, n_lr).
        parts: the part of the spectrum, one slice per axis.
        damping: () or (B,), see :meth:`SeparableAcquisition.pseudo_inverse`.

    Returns:
        (1 or B, 1, *parts).
    """
    largest = _outer_product([values.amax(dim=-1, keepdim=True) for values in singular])
    chosen = [values[..., part] for values, part in zip(singular, parts, strict=True)]
    relative = _outer_product(chosen) / largest
    inverse = relative / (relative.square() + damping.reshape(-1, *[1] * (len(singular) + 1))) / largest
    return torch.where(relative > RELATIVE_CUTOFF, inverse, 0.0)


class SeparableAcquisition:
    """A linear measurement ``A = A_0 x A_1 x ...`` with one matrix per spatial axis.

    Args:
        matrices: one per spatial axis, (n_lr, n_hr), or (B, n_lr, n_hr) with one per image of the batch.

    Raises:
        InputError: a matrix is not two- or three-dimensional, or has more rows than columns.
    """

    def __init__(self, matrices: Sequence[Tensor | np.ndarray]) -> None:
        # Tensors made in inference mode cannot be used in training later.
        with torch.inference_mode(False):
            self.matrices = [torch.as_tensor(m).clone() for m in matrices]
        for axis, matrix in enumerate(self.matrices):
            if matrix.ndim not in (2, 3) or matrix.shape[-2] > matrix.shape[-1]:
                raise InputError(f"axis {axis}: matrix of {tuple(matrix.shape)}, but need (n_lr, n_hr), n_lr <= n_hr")
        self._decomposition: tuple[list[Tensor], list[Tensor], list[Tensor]] | None = None
        self._on: dict[tuple, list[list[Tensor]]] = {}

    @classmethod
    def from_profile(
        cls,
        hr_shape: Sequence[int],
        lr_shape: Sequence[int],
        profile: str | Sequence[str] = "box",
        spacing_mm: Sequence[float] | None = None,
        fwhm_mm: float | Sequence[float | None] | None = None,
        gap_mm: float | Sequence[float] = 0.0,
    ) -> SeparableAcquisition:
        """Build the acquisition of a whole field of view.

        Args:
            hr_shape: spatial shape of the high-resolution image.
            lr_shape: spatial shape of the measurement; an axis of equal size stays unchanged.
            profile: ``box``, ``gaussian`` or ``kspace``, one for all axes or one per axis.
            spacing_mm: high-resolution voxel size per axis; default 1.
            fwhm_mm: width of the slice profile; default is the low-resolution spacing minus the gap.
            gap_mm: gap between slices on the axes whose resolution is reduced.

        Returns:
            The acquisition.

        Raises:
            InputError: a profile is unknown, or a size, spacing, width or gap is out of range; it names the axis.
        """
        axes = len(hr_shape)
        profiles = list(profile) if isinstance(profile, (list, tuple)) else [str(profile)] * axes
        spacing = [1.0] * axes if spacing_mm is None else list(spacing_mm)
        fwhms = list(fwhm_mm) if isinstance(fwhm_mm, Sequence) else [fwhm_mm] * axes
        gaps = list(gap_mm) if isinstance(gap_mm, Sequence) else [gap_mm] * axes
        given = {"lr_shape": lr_shape, "profile": profiles, "spacing_mm": spacing, "fwhm_mm": fwhms, "gap_mm": gaps}
        for argument, values in given.items():
            if len(values) != axes:
                raise InputError(
                    f"{argument} {tuple(values)}: must have {axes} values, one per axis of {tuple(hr_shape)}"
                )
        matrices = []
        for axis, (n_hr, n_lr, name, mm, fwhm, gap) in enumerate(
            zip(hr_shape, lr_shape, profiles, spacing, fwhms, gaps, strict=True)
        ):
            if not mm > 0:
                raise InputError(f"axis {axis}: spacing_mm {mm}, but it must be above 0")
            if n_hr == n_lr:
                matrices.append(np.eye(n_hr))
                continue
            try:
                matrices.append(profile_matrix(name, n_hr, n_lr, None if fwhm is None else fwhm / mm, gap / mm))
            except InputError as error:
                raise InputError(f"axis {axis}: {error}") from None
        return cls(matrices)

    @property
    def hr_shape(self) -> tuple[int, ...]:
        return tuple(m.shape[-1] for m in self.matrices)

    @property
    def lr_shape(self) -> tuple[int, ...]:
        return tuple(m.shape[-2] for m in self.matrices)

    def _like(self, image: Tensor) -> list[list[Tensor]]:
        """The matrices, U, S and V^T in the image's type and on its device, decomposed once in float64."""
        if image.ndim != len(self.matrices) + 2:
            raise InputError(
                f"image: shape {tuple(image.shape)}, but need (B, C) and {len(self.matrices)} spatial axes"
            )
        if not image.is_floating_point():
            raise InputError(f"image: type {image.dtype}, but the acquisition needs floating-point numbers")
        key = (image.dtype, image.device)
        if key not in self._on:
            with torch.inference_mode(False):
                groups = [self.matrices, *self.decomposition()]
                self._on[key] = [[m.to(dtype=image.dtype, device=image.device) for m in group] for group in groups]
        return self._on[key]

    def decomposition(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """U, S and V^T of every axis: three lists of float64 tensors, computed once."""
        if self._decomposition is None:
            u, s, vt = zip(*(_decomposed_matrix(m.double()) for m in self.matrices), strict=True)
            self._decomposition = list(u), list(s), list(vt)
        return self._decomposition

    def forward(self, hr: Tensor) -> Tensor:
        """Measure: ``A hr``. Args: hr (B, C, *hr_shape). Returns: (B, C, *lr_shape)."""
        for axis, matrix in enumerate(self._like(hr)[0]):
            hr = apply_matrix(matrix, hr, axis)
        return hr

    __call__ = forward

    def adjoint(self, lr: Tensor) -> Tensor:
        """Back-project: ``A^T lr``. Args: lr (B, C, *lr_shape). Returns: (B, C, *hr_shape)."""
        for axis, matrix in reversed(list(enumerate(self._like(lr)[0]))):
            lr = apply_matrix(matrix.mT, lr, axis)
        return lr

    def pseudo_inverse(self, lr: Tensor, regularisation: float | Tensor = 0.0) -> Tensor:
        """Find the image of least norm that explains the measurement: ``A^T (A A^T + regularisation)^-1 lr``.

        Args:
            lr: (B, C, *lr_shape).
            regularisation: Tikhonov parameter relative to the largest singular value squared, one for all or (B,); 0
                gives the Moore-Penrose inverse.

        Returns:
            (B, C, *hr_shape).

        Raises:
            InputError: the image does not fit, or the regularisation is negative.
        """
        damping = torch.as_tensor(regularisation, dtype=lr.dtype, device=lr.device)
        if not bool((damping >= 0).all()):
            raise InputError(f"regularisation {regularisation}: must be 0 or more")
        _, u, s, vt = self._like(lr)
        for axis, basis in enumerate(u):
            lr = apply_matrix(basis.mT, lr, axis)
        # Part by part, because the filter's intermediate results would take the memory of several images.
        thick = max(1, lr.shape[2] * _FILTER_VOXELS // max(1, lr.numel()))
        rest, parts = [slice(None)] * (len(s) - 1), []
        for start in range(0, lr.shape[2], thick):
            part = slice(start, start + thick)
            parts.append(lr[:, :, part] * spectral_filter(s, [part, *rest], damping))
        lr = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        for axis, basis in reversed(list(enumerate(vt))):
            lr = apply_matrix(basis.mT, lr, axis)
        return lr

    def project(self, sr: Tensor, lr: Tensor, regularisation: float | Tensor = 0.0) -> Tensor:
        """Move ``sr`` by the least distance that makes ``forward(sr)`` equal to ``lr``: ``sr + A^+ (lr - A sr)``.

        Args:
            sr: (B, C, *hr_shape).
            lr: (B, C, *lr_shape), the measurement.
            regularisation: Tikhonov damping, one for all or (B,); 0 is exact, more leaves more of the noise in ``lr``
                unexplained.

        Returns:
            (B, C, *hr_shape).

        Raises:
            InputError: ``sr`` or ``lr`` does not fit, or the regularisation is negative.

        Reference:
            Range-null space decomposition, as in Wang et al., arXiv:2212.00490.
        """
        if tuple(lr.shape[2:]) != self.lr_shape:
            raise InputError(f"lr: {tuple(lr.shape[2:])} voxels, but the operator gives {self.lr_shape}")
        return sr + self.pseudo_inverse(lr - self.forward(sr), regularisation)
