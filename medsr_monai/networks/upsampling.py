"""Upsampling from the low-resolution to the high-resolution grid: cubic interpolation or learned sub-pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from medsr_monai.networks.blocks import (
    BATCH_NORMS,
    TAIL_GAIN,
    Generator,
    PixelShuffle,
    Scale,
    check_residual_channels,
    convolution,
    initialise_icnr_,
    initialise_kaiming_,
)
from medsr_monai.system.errors import InputError

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
    """One convolution, pixel shuffle and activation per stage (two for a factor of 4), as in SRGAN, EDSR and RCAN.

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


class SubPixelGenerator(Generator):
    """``sr = tail(upsample(f + body(f)))`` with ``f = head(lr)``: residual blocks on the low-resolution grid.

    Args, after those of :class:`Generator`:
        features: channels of the trunk.
        num_blocks: blocks of the body, which a convolution ends.
        block: makes a block, (B, features, *spatial) -> the same.
        last: makes the convolution that ends the body; None for a plain one.
        end_kernel: size of the first and of the last convolution.
        activation: after the first convolution and after every stage of upsampling; None for none.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        scale: Scale,
        features: int,
        num_blocks: int,
        block: Callable[[], nn.Module],
        last: Callable[[], nn.Module] | None = None,
        end_kernel: int = 3,
        activation: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__(spatial_dims, in_channels, out_channels, scale, features=features, num_blocks=num_blocks)
        head = convolution(spatial_dims, in_channels, features, end_kernel)
        self.head = nn.Sequential(head, activation()) if activation else head
        blocks = [block() for _ in range(num_blocks)]
        self.body = nn.Sequential(*blocks, last() if last else convolution(spatial_dims, features, features))
        self.upsampling = sub_pixel_upsampling(spatial_dims, features, self.scale, activation)
        self.tail = convolution(spatial_dims, features, out_channels, end_kernel)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.head(image)
        return self.tail(self.upsampling(maps + self.body(maps)))


class InterpolatedResidual(Generator):
    """``sr = interpolate(lr) + body(interpolate(lr))``: a chain of 3-voxel convolutions and ReLUs.

    The residuals are on the first ``out_channels`` channels of lr, so ``in_channels`` must not be fewer. The last
    convolution starts with small weights.

    Args, after those of :class:`Generator`:
        features: channels between the convolutions.
        depth: convolutions, 2 or more.
        batch_norm: normalise between the inner convolutions and their ReLUs.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        scale: Scale,
        features: int,
        depth: int,
        batch_norm: bool = False,
    ) -> None:
        check_residual_channels(in_channels, out_channels)
        super().__init__(spatial_dims, in_channels, out_channels, scale, features=features)
        if depth < 2:
            raise InputError(f"depth {depth}: must be at least 2")
        self.upsampling = CubicUpsampling(self.scale)
        layers: list[nn.Module] = [convolution(spatial_dims, in_channels, features), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers.append(convolution(spatial_dims, features, features, bias=not batch_norm))
            layers += [BATCH_NORMS[spatial_dims](features)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
        self.body = nn.Sequential(*layers, convolution(spatial_dims, features, out_channels))
        initialise_kaiming_(self, self.body[-1], TAIL_GAIN)

    def forward(self, image: Tensor) -> Tensor:
        image = self.upsampling(image)
        return image[:, : self.out_channels] + self.body(image)
