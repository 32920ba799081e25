"""Iterative back-projection: the residual of the measurement corrects an interpolated image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medsr_monai.acquisition.separable import SeparableAcquisition
from medsr_monai.geometry.resampling import interpolate
from medsr_monai.system.errors import InputError, check_whole


def back_project(
    lr: Tensor, acquisition: SeparableAcquisition, iterations: int = 20, method: str = "cubic", step: float = 1.0
) -> Tensor:
    """Iterate ``sr <- sr + step / |A|^2 A^T (lr - A sr)`` from an interpolated image.

    The back-projection kernel is the adjoint of the known acquisition, scaled by its largest singular value. With it,
    the paper's condition for convergence holds for every acquisition, and the residual falls in every iteration. The
    limit is the consistent image nearest to the interpolated one. A box as wide as the factor needs one iteration; a
    wide profile needs many. Stopping before the limit leaves noise unexplained. Departs from the paper: there is one
    image, not several shifted ones to register.

    Args:
        lr: (B, C, *lr_shape), the measurement, floating point.
        acquisition: the operator ``A`` that made ``lr``.
        iterations: 0 or more.
        method: of :func:`interpolate`, for the initial image.
        step: above 0 and below 2; 1 never overshoots.

    Returns:
        (B, C, *hr_shape) in the type and on the device of ``lr``.

    Raises:
        InputError: an argument is out of range, or the measurement does not have the acquisition's shape.

    Reference:
        Irani, Peleg, doi:10.1016/1049-9652(91)90045-L
    """
    check_whole("iterations", iterations, 0)
    if not 0 < step < 2:
        raise InputError(f"step {step}: must be above 0 and below 2, otherwise the iteration diverges")
    if tuple(lr.shape[2:]) != acquisition.lr_shape:
        raise InputError(f"lr: {tuple(lr.shape[2:])} voxels, but the operator gives {acquisition.lr_shape}")
    sr = interpolate(lr, acquisition.hr_shape, method).to(torch.promote_types(lr.dtype, torch.float32))
    measured = lr.to(sr.dtype)
    largest = math.prod(float(values.max()) for values in acquisition.decomposition()[1])
    for _ in range(iterations):
        sr += acquisition.adjoint(measured - acquisition.forward(sr)) * (step / largest**2)
    return sr.to(lr.dtype)
