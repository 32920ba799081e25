"""Building blocks that the networks share, for two and three dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medsr_monai.system.errors import InputError

CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_SCALE = 8
NEGATIVE_SLOPE = 0.2  # of leaky ReLUs
TAIL_GAIN = 0.1  # of the last convolution's initial weights, so that training starts near the interpolation
Scale: TypeAlias = int | Sequence[int]


def convolution(
    spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int = 3, bias: bool = True
) -> nn.Module:
    """Make a convolution of stride 1 with zero padding that keeps the image's size if the kernel is odd.

    Raises:
        InputError: ``spatial_dims`` is neither 2 nor 3.
    """
    if spatial_dims not in CONVOLUTIONS:
        raise InputError(f"spatial_dims {spatial_dims}: must be 2 or 3")
    return CONVOLUTIONS[spatial_dims](in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


def check_counts(**counts: int) -> None:
    """Refuse a named argument below 1."""
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} {value}: must be at least 1")


def check_residual_channels(in_channels: int, out_channels: int) -> None:
    """Refuse an output with more channels than the input to whose first channels it is added, or with none."""
    if not 1 <= out_channels <= in_channels:
        raise InputError(
            f"out_channels {out_channels}: must be 1 to in_channels ({in_channels}), as it adds to the input"
        )


def check_kernel(name: str, size: int) -> None:
    """Refuse an even kernel size, whose convolution would not keep the image's size."""
    if size < 1 or size % 2 == 0:
        raise InputError(f"{name} {size}: must be an odd number, 1 or more")


def initialise_kaiming_(
    network: nn.Module,
    tail: nn.Module | None = None,
    tail_gain: float = 1.0,
    slope: float = 0.0,
    rng: torch.Generator | None = None,
) -> None:
    """Set Kaiming weights and zero biases; unlike a fixed deviation, they fit any width.

    Args:
        network: changed in place.
        tail: the network's last convolution, whose weights are multiplied by ``tail_gain``.
        tail_gain: below 1 if the output is a residual.
        slope: of the ReLUs for negative values.
        rng: None for the global generator.

    Reference:
        He et al., doi:10.1109/ICCV.2015.123
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, a=slope, generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if module is tail:
                module.weight.data.mul_(tail_gain)


def scale_per_axis(scale: Scale, spatial_dims: int) -> tuple[int, ...]:
    """Expand a scale, one integer of 1 to 8 or one per axis, to one per axis; refuse anything else."""
    scales = list(scale) if isinstance(scale, Iterable) else [scale] * spatial_dims
    if len(scales) != spatial_dims:
        raise InputError(f"scale {scale}: must be one integer, or {spatial_dims}, one per axis")
    for axis, factor in enumerate(scales):
        if factor not in range(1, MAX_SCALE + 1):
            raise InputError(f"scale {scale}: axis {axis} has {factor}, but need an integer of 1 to {MAX_SCALE}")
    return tuple(int(factor) for factor in scales)


class Generator(nn.Module):
    """The base of the networks that map lr to sr; a network's own arguments follow these.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of lr.
        out_channels: channels of sr.
        scale: integer factor of 1 to 8, or one per axis, e.g. ``(1, 1, 4)``.
        counts: the network's own arguments that must be at least 1; the error names them.

    Shape:
        (B, in_channels, *spatial) -> (B, out_channels, *(scale * spatial))

    Raises:
        InputError: a parameter is out of range; the message names it.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, scale: Scale, **counts: int) -> None:
        super().__init__()
        self.scale = scale_per_axis(scale, spatial_dims)
        check_counts(in_channels=in_channels, out_channels=out_channels, **counts)
        self.spatial_dims = spatial_dims
        self.out_channels = out_channels


def run_stages(stages: nn.ModuleList, image: Tensor) -> list[Tensor]:
    """The output of each stage of a chain."""
    features = []
    for stage in stages:
        image = stage(image)
        features.append(image)
    return features


class PixelShuffle(nn.Module):
    """Rearrange channels into space with one factor per axis: the sub-pixel layer in two and three dimensions.

    Args:
        scale: factor per spatial axis.

    Shape:
        (B, C * prod(scale), *spatial) -> (B, C, *(scale * spatial))

    Reference:
        Shi et al., CVPR 2016, doi:10.1109/CVPR.2016.207
    """

    def __init__(self, scale: Sequence[int]) -> None:
        super().__init__()
        self.scale = list(scale)  # a list, because TorchScript checks tuple indices even in branches never taken
        self.spatial_dims = len(self.scale)
        self.factor = math.prod(self.scale)

    def forward(self, image: Tensor) -> Tensor:
        batch, channels = image.size(0), image.size(1) // self.factor
        if self.spatial_dims == 2:
            a, b = self.scale[0], self.scale[1]
            h, w = image.size(2), image.size(3)
            image = image.reshape(batch, channels, a, b, h, w).permute(0, 1, 4, 2, 5, 3)
            return image.reshape(batch, channels, h * a, w * b)
        a, b, c = self.scale[0], self.scale[1], self.scale[2]
        d, h, w = image.size(2), image.size(3), image.size(4)
        image = image.reshape(batch, channels, a, b, c, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return image.reshape(batch, channels, d * a, h * b, w * c)


def initialise_icnr_(weight: Tensor, factor: int, gain: float = 1.0) -> Tensor:
    """Initialise the convolution before a pixel shuffle with equal sub-pixels, which avoids a checkerboard (ICNR).

    Args:
        weight: (C * factor, ...) weight of the convolution, changed in place.
        factor: product of the pixel shuffle's scales.
        gain: multiplies the Kaiming initialisation.

    Returns:
        ``weight``.

    Reference:
        Aitken et al., arXiv:1707.02937
    """
    with torch.no_grad():
        kernel = torch.empty_like(weight[::factor])
        nn.init.kaiming_normal_(kernel)
        return weight.copy_((kernel * gain).repeat_interleave(factor, dim=0))


class ResidualDenseBlock(nn.Module):
    """Densely connected convolutions whose scaled output is added to the input.

    Args:
        spatial_dims: 2 or 3.
        features: channels in and out.
        growth: channels that each inner convolution adds.
        layers: convolutions in the block.
        residual_scale: weight of the block's output.

    Attributes:
        checkpoint_activations: recompute the activations in the backward pass instead of keeping them (training only).

    Shape:
        (B, features, *spatial) -> the same

    Reference:
        Wang et al., ESRGAN, doi:10.1007/978-3-030-11021-5_5
    """

    def __init__(
        self, spatial_dims: int, features: int, growth: int, layers: int = 5, residual_scale: float = 0.2
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            convolution(spatial_dims, features + i * growth, growth if i < layers - 1 else features)
            for i in range(layers)
        )
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)
        self.residual_scale = residual_scale
        self.checkpoint_activations = False

    def forward(self, image: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # TorchScript cannot compile the rest
            return self.dense(image)
        if self.checkpoint_activations and self.training:
            return checkpoint(self.dense, image, use_reentrant=False)
        return self.dense(image)

    def dense(self, image: Tensor) -> Tensor:
        """Compute the block; `forward` decides whether its activations are kept."""
        maps = image
        last = len(self.convolutions) - 1
        for i, conv in enumerate(self.convolutions):
            if i == last:
                return image + conv(maps) * self.residual_scale
            maps = torch.cat((maps, self.activation(conv(maps))), dim=1)
        return image


class Residual(nn.Module):
    """Add the result of the inner layers, times a weight, to the input.

    Args:
        layers: inner layers, which keep the shape.
        residual_scale: weight of their result.

    Shape:
        (B, C, *spatial) -> the same
    """

    def __init__(self, *layers: nn.Module, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.residual_scale = residual_scale

    def forward(self, maps: Tensor) -> Tensor:
        if self.residual_scale == 1.0:
            return maps + self.body(maps)
        return maps + self.body(maps) * self.residual_scale


class RRDB(Residual):
    """Residual-in-residual dense block: ``dense_blocks`` of :class:`ResidualDenseBlock` inside another residual.

    Reference:
        Wang et al., ESRGAN, doi:10.1007/978-3-030-11021-5_5
    """

    def __init__(
        self, spatial_dims: int, features: int, growth: int, dense_blocks: int = 3, residual_scale: float = 0.2
    ) -> None:
        blocks = (
            ResidualDenseBlock(spatial_dims, features, growth, residual_scale=residual_scale)
            for _ in range(dense_blocks)
        )
        super().__init__(*blocks, residual_scale=residual_scale)
