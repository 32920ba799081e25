"""Weighted means over a window around every voxel, one axis after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from medsr_monai.system.errors import InputError


def gaussian_weights(window: int, sigma: float) -> list[float]:
    """``exp(-x^2 / (2 sigma^2))`` at ``window`` whole steps around 0, divided by its sum; sigma in voxels."""
    weights = np.exp(-0.5 * ((np.arange(window) - window // 2) / sigma) ** 2)
    return [float(w) for w in weights / weights.sum()]


def correlate_axis(image: Tensor, weights: Sequence[float], dim: int) -> Tensor:
    """Correlate one axis with the weights where all of them fit: its side shrinks by ``len(weights) - 1``."""
    # Adding shifted views is several times as fast as a one-channel convolution, and never rounds to TF32 on a GPU.
    size = image.shape[dim] - len(weights) + 1
    total = image.narrow(dim, 0, size) * weights[0]
    for offset, weight in enumerate(weights[1:], start=1):
        total.add_(image.narrow(dim, offset, size), alpha=weight)
    return total


def smooth(image: Tensor, weights: Sequence[float]) -> Tensor:
    """`correlate_axis` along every spatial axis of (B, C, *spatial)."""
    for dim in range(2, image.ndim):
        image = correlate_axis(image, weights, dim)
    return image


def check_sides(image: Tensor, shortest: int, name: str) -> None:
    """Refuse an image with an axis too short for what is measured.

    Args:
        image: (B, C, *spatial).
        shortest: voxels that an axis needs.
        name: what needs them.

    Raises:
        InputError: naming the axis.
    """
    for axis, size in enumerate(image.shape[2:]):
        if size < shortest:
            raise InputError(f"axis {axis}: {size} voxels, but {name} needs at least {shortest}")
