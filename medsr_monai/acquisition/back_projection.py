"""Iterative back-projection: an interpolated image is corrected by what it leaves of the measurement unexplained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from medsr_monai.geometry.resampling import interpolate
from medsr_monai.system.errors import InputError


class Acquisition(Protocol):
    """What has to be known of a measurement, as :class:`medsr_monai.acquisition.SeparableAcquisition` does."""

    @property
    def hr_shape(self) -> tuple[int, ...]: ...

    @property
    def lr_shape(self) -> tuple[int, ...]: ...

    def forward(self, hr: Tensor) -> Tensor: ...

    def adjoint(self, lr: Tensor) -> Tensor: ...

    def decomposition(self) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]: ...


def back_project(
    lr: Tensor, acquisition: Acquisition, iterations: int = 20, method: str = "cubic", step: float = 1.0
) -> Tensor:
    """Iterate ``sr <- sr + step / |A|^2 A^T (lr - A sr)`` from an interpolated image.

    The back-projection kernel is the adjoint of the known acquisition, scaled by its largest singular value: the
    paper's condition for convergence then holds for every acquisition, and the residual falls in every iteration. The
    limit is the consistent image nearest to the interpolated one. A box as wide as the factor needs one iteration; a
    wide profile needs many, and stopping before the limit leaves noise unexplained. The paper registers several shifted
    images; here is one.

    Args:
        lr: (B, C, *lr_shape) the measurement, floating point.
        acquisition: how it came about; ``A`` in the equation.
        iterations: how many, 0 or more.
        method: of :func:`interpolate`, for the image to start from.
        step: above 0 and below 2; 1 never overshoots.

    Returns:
        (B, C, *hr_shape) in the type and on the device of ``lr``.

    Raises:
        InputError: an argument out of range, or a measurement of another shape than the acquisition's.

    Reference:
        Irani, Peleg, doi:10.1016/1049-9652(91)90045-L
    """
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 0:
        raise InputError(f"iterations {iterations}: must be a whole number, 0 or more")
    if not 0 < step < 2:
        raise InputError(f"step {step}: must lie between 0 and 2, else the iteration diverges")
    if tuple(lr.shape[2:]) != acquisition.lr_shape:
        raise InputError(f"measurement of {tuple(lr.shape[2:])} voxels, but the operator gives {acquisition.lr_shape}")
    sr = interpolate(lr, acquisition.hr_shape, method).to(torch.promote_types(lr.dtype, torch.float32))
    measured = lr.to(sr.dtype)
    largest = math.prod(float(values.max()) for values in acquisition.decomposition()[1])
    for _ in range(iterations):
        sr += acquisition.adjoint(measured - acquisition.forward(sr)) * (step / largest**2)
    return sr.to(lr.dtype)
