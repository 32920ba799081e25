"""Upsampling from the low-resolution to the high-resolution grid: cubic interpolation or learned sub-pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from medsr_monai.networks.blocks import PixelShuffle, convolution, initialise_icnr_

# Slope of Keys' kernel, as in `imresize`, which papers on photographs use; torch's own "bicubic" has -0.75.
SLOPE = -0.5
RADIUS = 2


def _cubic_kernel(distance: float) -> float:
    d = abs(distance)
    if d <= 1:
        return (SLOPE + 2) * d**3 - (SLOPE + 3) * d**2 + 1
    return SLOPE * (d**3 - 5 * d**2 + 8 * d - 4) if d < RADIUS else 0.0


def cubic_weights(factor: int) -> list[list[float]]:
    """Compute the weights of five neighbouring voxels for each of the ``factor`` parts of the middle voxel."""
    centres = [(2 * part + 1 - factor) / (2 * factor) for part in range(factor)]
    return [[_cubic_kernel(centre - tap) for tap in range(-RADIUS, RADIUS + 1)] for centre in centres]


class CubicUpsampling(nn.Module):
    """Cubic interpolation by an integer factor per axis, half-voxel aligned, in two and three dimensions.

    torch has no tricubic interpolation. Beyond the border, the image continues with its outer voxels. The code sums
    shifted images, because autocast would round the result of a convolution layer, to which a residual is added.

    Args:
        scale: factor per spatial axis.

    Shape:
        (B, C, *spatial) -> (B, C, *(scale * spatial))

    Reference:
        Keys, doi:10.1109/TASSP.1981.1163711
    """

    def __init__(self, scale: Sequence[int]) -> None:
        super().__init__()
        self.scale = list(scale)
        self.weights = [cubic_weights(factor) for factor in self.scale]

    def forward(self, image: Tensor) -> Tensor:
        for axis, weights in enumerate(self.weights):
            if len(weights) > 1:
                image = self.along(image, axis + 2, weights)
        return image

    def along(self, image: Tensor, dim: int, weights: list[list[float]]) -> Tensor:
        """Interpolate one axis: every part is a weighted sum of shifted images."""
        size = image.size(dim)
        first, last = image.narrow(dim, 0, 1), image.narrow(dim, size - 1, 1)
        padded = torch.cat((first, first, image, last, last), dim=dim)
        parts: list[Tensor] = []
        for row in weights:
            part = padded.narrow(dim, 0, size) * row[0]
            for tap in range(1, 5):
                if row[tap] != 0.0:
                    part = part + padded.narrow(dim, tap, size) * row[tap]
            parts.append(part)
        return torch.stack(parts, dim=dim + 1).flatten(dim, dim + 1)


def upsampling_stages(scale: Sequence[int]) -> list[tuple[int, ...]]:
    """Factor a scale into stages: each takes the smallest prime factor left on each axis."""
    left, stages = list(scale), []
    while max(left) > 1:
        stage = tuple(next((n for n in range(2, factor + 1) if factor % n == 0), 1) for factor in left)
        left = [factor // part for factor, part in zip(left, stage, strict=True)]
        stages.append(stage)
    return stages


def sub_pixel_upsampling(
    spatial_dims: int, features: int, scale: Sequence[int], activation: Callable[[], nn.Module] | None = None
) -> nn.Sequential:
    """One convolution and one pixel shuffle per stage (two stages for a factor of 4), as in SRGAN, EDSR and RCAN.

    Args:
        spatial_dims: 2 or 3.
        features: channels in and out.
        scale: factor per spatial axis.
        activation: after every stage; None for none.

    Shape:
        (B, features, *spatial) -> (B, features, *(scale * spatial))

    Reference:
        Shi et al., doi:10.1109/CVPR.2016.207
    """
    layers: list[nn.Module] = []
    for stage in upsampling_stages(scale):
        factor = math.prod(stage)
        conv = convolution(spatial_dims, features, features * factor)
        initialise_icnr_(cast(Tensor, conv.weight), factor)
        layers += [conv, PixelShuffle(stage)]
        if activation is not None:
            layers.append(activation())
    return nn.Sequential(*layers)
