"""Weighted means over a window around every voxel, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from medsr_monai.system.errors import InputError


def gaussian_weights(window: int, sigma: float) -> list[float]:
    """Sample ``exp(-x^2 / (2 sigma^2))`` at ``window`` integers around 0, normalised to sum 1; sigma in voxels."""
    weights = np.exp(-0.5 * ((np.arange(window) - window // 2) / sigma) ** 2)
    return [float(w) for w in weights / weights.sum()]


def correlate_axis(image: Tensor, weights: Sequence[float], dim: int) -> Tensor:
    """Correlate one axis with the weights where all of them fit; the side shrinks by ``len(weights) - 1``."""
    # Summing shifted views is several times as fast as a one-channel convolution, and never rounds to TF32 on a GPU.
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
    """Refuse an image with an axis that is too short.

    Args:
        image: (B, C, *spatial).
        shortest: voxels that an axis needs.
        name: the measure that needs them, for the error.

    Raises:
        InputError: an axis is too short; the message names it.
    """
    for axis, size in enumerate(image.shape[2:]):
        if size < shortest:
            raise InputError(f"axis {axis}: {size} voxels, but {name} needs at least {shortest}")
