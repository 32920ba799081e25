"""Building blocks that the networks share, for two and three dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medsr_monai.system.errors import InputError

CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_SCALE = 8


def convolution(
    spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int = 3, bias: bool = True
) -> nn.Module:
    """Make a convolution of stride 1 with zero padding that keeps the image's size.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: odd.
        bias: False if a normalisation follows.

    Returns:
        The convolution.

    Raises:
        InputError: ``spatial_dims`` is neither 2 nor 3.
    """
    if spatial_dims not in CONVOLUTIONS:
        raise InputError(f"spatial_dims {spatial_dims}: must be 2 or 3")
    return CONVOLUTIONS[spatial_dims](in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


def check_counts(**counts: int) -> None:
    """Check that named arguments are at least 1.

    Raises:
        InputError: for the first argument below 1.
    """
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} {value}: must be at least 1")


def check_residual_channels(in_channels: int, out_channels: int) -> None:
    """Check the channels of an output that is added to the first channels of the input.

    Raises:
        InputError: the output has more channels than the input, or none.
    """
    if not 1 <= out_channels <= in_channels:
        raise InputError(
            f"out_channels {out_channels}: must be 1 to in_channels ({in_channels}), as it adds to the input"
        )


def check_kernel(name: str, size: int) -> None:
    """Check that a kernel size is odd, so that the convolution keeps the image's size.

    Raises:
        InputError: the size is not an odd number.
    """
    if size < 1 or size % 2 == 0:
        raise InputError(f"{name} {size}: must be an odd number, 1 or more")


def initialise_kaiming_(network: nn.Module, tail: nn.Module | None = None, tail_gain: float = 1.0) -> None:
    """Set Kaiming weights for ReLUs and zero biases.

    Args:
        network: changed in place.
        tail: the network's last convolution, whose weights are multiplied by ``tail_gain``.
        tail_gain: below 1 if the output is a residual.

    Reference:
        He et al., doi:10.1109/ICCV.2015.123
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if module is tail:
                module.weight.data.mul_(tail_gain)


def scale_per_axis(scale: int | Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    """Expand a scale to one integer per axis.

    Args:
        scale: one integer, or one per axis.
        spatial_dims: number of axes.

    Returns:
        One integer per axis.

    Raises:
        InputError: the scale is not one integer of 1 to 8 per axis.
    """
    scales = list(scale) if isinstance(scale, Iterable) else [scale] * spatial_dims
    if len(scales) != spatial_dims:
        raise InputError(f"scale {scale}: must be one integer, or {spatial_dims}, one per axis")
    for axis, factor in enumerate(scales):
        if factor not in range(1, MAX_SCALE + 1):
            raise InputError(f"scale {scale}: axis {axis} has {factor}, but need an integer of 1 to {MAX_SCALE}")
    return tuple(int(factor) for factor in scales)


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
        self.activation = nn.LeakyReLU(0.2, inplace=True)
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


class RRDB(nn.Module):
    """Residual-in-residual dense block: several dense blocks inside another residual connection.

    Args:
        spatial_dims: 2 or 3.
        features: channels in and out.
        growth: channels that each inner convolution adds.
        dense_blocks: dense blocks inside.
        residual_scale: weight of each residual.

    Shape:
        (B, features, *spatial) -> the same

    Reference:
        Wang et al., ESRGAN, doi:10.1007/978-3-030-11021-5_5
    """

    def __init__(
        self, spatial_dims: int, features: int, growth: int, dense_blocks: int = 3, residual_scale: float = 0.2
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(
                ResidualDenseBlock(spatial_dims, features, growth, residual_scale=residual_scale)
                for _ in range(dense_blocks)
            )
        )
        self.residual_scale = residual_scale

    def forward(self, image: Tensor) -> Tensor:
        return image + self.body(image) * self.residual_scale
