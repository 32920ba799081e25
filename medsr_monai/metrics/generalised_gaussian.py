"""Generalised Gaussian distributions, symmetric and asymmetric, fitted to many sets of values by their moments."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

# Range of the fitted shape: 1 is the Laplace distribution, 2 the Gaussian; above 10 it is almost uniform.
SHAPES = (0.2, 10.0)


@functools.lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray]:
    """Shapes and their ratios ``E|x|^2 / E x^2``; the ratio rises with the shape."""
    shape = torch.arange(*SHAPES, 0.001, dtype=torch.float64)
    ratio = torch.exp(2 * torch.lgamma(2 / shape) - torch.lgamma(1 / shape) - torch.lgamma(3 / shape))
    return shape.numpy(), ratio.numpy()


def shape_of(ratio: Tensor) -> Tensor:
    """Find the shape of a symmetric generalised Gaussian from its ``E|x|^2 / E x^2``, within ``SHAPES``, float64."""
    shapes, ratios = _table()
    return torch.from_numpy(np.interp(ratio.double().cpu().numpy(), ratios, shapes)).to(ratio.device)


def fit_ggd(values: Tensor) -> tuple[Tensor, Tensor]:
    """Fit shape and deviation of ``p(x) ~ exp(-(|x| / b)^shape)`` with mean zero by matching ``E|x|`` and ``E x^2``.

    Args:
        values: (..., n); the last axis holds one set of values, not all zero.

    Returns:
        The shape and the deviation ``sqrt(E x^2)``, both (...) in float64.

    Reference:
        Sharifi, Leon-Garcia: Estimation of shape parameter for generalized Gaussian distributions in subband
        decompositions of video. doi:10.1109/76.350779
    """
    square = values.square().mean(dim=-1, dtype=torch.float64)
    return shape_of(values.abs().mean(dim=-1, dtype=torch.float64).square() / square), square.sqrt()


def fit_aggd(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit shape, left and right deviation of a generalised Gaussian whose halves differ in width.

    Args:
        values: (..., n); the last axis holds one set of values, some on either side of zero.

    Returns:
        The shape and the root mean squares of the negative and of the positive values, all (...) in float64; nan if a
        side has no values.

    Reference:
        Lasmar, Stitou, Berthoumieu: Multiscale skewed heavy tailed model for texture analysis.
        doi:10.1109/ICIP.2009.5414404
    """
    negative, positive = values.clamp(max=0), values.clamp(min=0)
    left_sum, right_sum = (half.square().sum(dim=-1, dtype=torch.float64) for half in (negative, positive))
    left, right = (left_sum / (values < 0).sum(dim=-1)).sqrt(), (right_sum / (values > 0).sum(dim=-1)).sqrt()
    n = values.shape[-1]
    ratio = values.abs().mean(dim=-1, dtype=torch.float64).square() / ((left_sum + right_sum) / n)
    widths = left / right
    return shape_of(ratio * (widths**3 + 1) * (widths + 1) / (widths**2 + 1) ** 2), left, right
