"""Building blocks shared by the networks, in two and three dimensions from one code path."""

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
    """A convolution of stride 1 that keeps the image's size (zero padding); no bias where a normalisation follows.

    Raises:
        InputError: ``spatial_dims`` is neither 2 nor 3.
    """
    if spatial_dims not in CONVOLUTIONS:
        raise InputError(f"spatial_dims {spatial_dims}: must be 2 or 3")
    return CONVOLUTIONS[spatial_dims](in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)


def check_counts(**counts: int) -> None:
    """Arguments that count something, by their names.

    Raises:
        InputError: the first that is not 1 or more.
    """
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} {value}: must be at least 1")


def check_residual_channels(in_channels: int, out_channels: int) -> None:
    """An output that is added to the first channels of the input.

    Raises:
        InputError: it has more channels than the input, or none.
    """
    if not 1 <= out_channels <= in_channels:
        raise InputError(f"out_channels {out_channels}: need 1 to in_channels ({in_channels}), it adds to the input")


def check_kernel(name: str, size: int) -> None:
    """The size of a kernel that keeps the size of the image.

    Raises:
        InputError: it is no odd number.
    """
    if size < 1 or size % 2 == 0:
        raise InputError(f"{name} {size}: must be an odd number, 1 or more")


def initialise_kaiming_(network: nn.Module, tail: nn.Module | None = None, tail_gain: float = 1.0) -> None:
    """Kaiming weights for ReLUs and zero biases.

    Args:
        network: changed in place.
        tail: its last convolution, whose weights are multiplied by ``tail_gain``: small where the output is a residual.
        tail_gain: see ``tail``.

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
    """An integer scale, or one per axis, as one per axis.

    Raises:
        InputError: not one integer of 1 to 8 per spatial axis.
    """
    scales = list(scale) if isinstance(scale, Iterable) else [scale] * spatial_dims
    if len(scales) != spatial_dims:
        raise InputError(f"scale {scale}: need one integer, or {spatial_dims}, one per axis")
    for axis, factor in enumerate(scales):
        if factor not in range(1, MAX_SCALE + 1):
            raise InputError(f"scale {scale}: axis {axis} has {factor}, need an integer of 1 to {MAX_SCALE}")
    return tuple(int(factor) for factor in scales)


class PixelShuffle(nn.Module):
    """Rearrange channels into space, one factor per axis: the sub-pixel layer in two and three dimensions.

    Args:
        scale: factor per spatial axis.

    Shape:
        (B, C * prod(scale), *spatial) -> (B, C, *(scale * spatial))

    Reference:
        Shi et al., CVPR 2016, doi:10.1109/CVPR.2016.207
    """

    def __init__(self, scale: Sequence[int]) -> None:
        super().__init__()
        self.scale = list(scale)  # a list: TorchScript checks the indices of a tuple in branches never taken
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
    """Initialise the convolution before a pixel shuffle so that all sub-pixels start equal: no checkerboard.

    Args:
        weight: (C * factor, ...) weight of the convolution, changed in place.
        factor: product of the pixel shuffle's scales.
        gain: multiplies the Kaiming initialisation.

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
        checkpoint_activations: compute the inside again in the backward pass instead of keeping it; in training only.

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
        if torch.jit.is_scripting():  # it cannot compile the rest
            return self.dense(image)
        if self.checkpoint_activations and self.training:
            return checkpoint(self.dense, image, use_reentrant=False)
        return self.dense(image)

    def dense(self, image: Tensor) -> Tensor:
        """The block itself; its activations are kept for the backward pass or computed again there."""
        maps = image
        last = len(self.convolutions) - 1
        for i, conv in enumerate(self.convolutions):
            if i == last:
                return image + conv(maps) * self.residual_scale
            maps = torch.cat((maps, self.activation(conv(maps))), dim=1)
        return image


class RRDB(nn.Module):
    """Residual-in-residual dense block: several dense blocks inside one more residual connection.

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
