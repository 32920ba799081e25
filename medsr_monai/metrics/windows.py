"""Weighted means over a window around every voxel, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional

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


def halved(image: Tensor, beyond: str) -> Tensor:
    """Average 2 x 2 (x 2) voxels; beyond an odd side, the image continues as in the mode ``beyond`` of torch's pad."""
    odd = [n for size in reversed(image.shape[2:]) for n in (0, size % 2)]
    image = functional.pad(image, odd, mode=beyond) if any(odd) else image
    return (functional.avg_pool2d if image.ndim == 4 else functional.avg_pool3d)(image, 2)


def check_sides(image: Tensor, shortest: int, name: str) -> None:
    """Refuse an image (B, C, *spatial) with an axis too short for a measure, whose name is in the error."""
    for axis, size in enumerate(image.shape[2:]):
        if size < shortest:
            raise InputError(f"axis {axis}: {size} voxels, but {name} needs at least {shortest}")
