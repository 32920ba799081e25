"""RCAN: residual groups of blocks that weight each channel by the channels' means over the whole image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medsr_monai.networks.blocks import check_counts, convolution, scale_per_axis
from medsr_monai.networks.upsampling import sub_pixel_upsampling
from medsr_monai.system.errors import InputError

MEANS: dict[int, type[nn.Module]] = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


class ChannelAttention(nn.Module):
    """Multiply every channel by a number from 0 to 1 that depends on the means of all channels.

    Args:
        spatial_dims: 2 or 3.
        features: channels in and out.
        reduction: the bottleneck has ``features // reduction`` channels.

    Shape:
        (B, features, *spatial) -> the same
    """

    def __init__(self, spatial_dims: int, features: int, reduction: int) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            MEANS[spatial_dims](1),
            convolution(spatial_dims, features, features // reduction, 1),
            nn.ReLU(inplace=True),
            convolution(spatial_dims, features // reduction, features, 1),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.weights(maps)


class Residual(nn.Module):
    """Add the result of the inner layers to the input."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.body(maps)


def channel_attention_block(spatial_dims: int, features: int, reduction: int) -> Residual:
    """Two convolutions and a :class:`ChannelAttention`, added to the input (RCAB in the paper)."""
    return Residual(
        convolution(spatial_dims, features, features),
        nn.ReLU(inplace=True),
        convolution(spatial_dims, features, features),
        ChannelAttention(spatial_dims, features, reduction),
    )


class RCAN(nn.Module):
    """``sr = tail(upsample(f + body(f)))`` with ``f = head(lr)``; the body consists of residual groups.

    Channel attention sees the mean of the whole image. So this network cannot be streamed, and in windows or patches
    its result differs from that of the whole image. Departs from the paper: no mean colour is subtracted; three
    dimensions; any integer scale (one stage per prime factor).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the low-resolution image.
        out_channels: channels of the output.
        scale: integer factor of 1 to 8, or one per axis, e.g. ``(1, 1, 4)``.
        features: channels of the trunk.
        num_groups: residual groups.
        num_blocks: channel attention blocks in each group.
        reduction: divides the channels within the attention.

    Shape:
        (B, in_channels, *spatial) -> (B, out_channels, *(scale * spatial))

    Raises:
        InputError: a parameter is out of range; the message names it.

    Reference:
        Zhang et al., doi:10.1007/978-3-030-01234-2_18
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 2,
        features: int = 64,
        num_groups: int = 10,
        num_blocks: int = 20,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        self.scale = scale_per_axis(scale, spatial_dims)
        check_counts(in_channels=in_channels, out_channels=out_channels, features=features)
        check_counts(num_groups=num_groups, num_blocks=num_blocks, reduction=reduction)
        if reduction > features:
            raise InputError(f"reduction {reduction}: must not exceed features, which is {features}")
        self.spatial_dims = spatial_dims
        self.out_channels = out_channels
        self.head = convolution(spatial_dims, in_channels, features)
        self.body = nn.Sequential(
            *(
                Residual(
                    *(channel_attention_block(spatial_dims, features, reduction) for _ in range(num_blocks)),
                    convolution(spatial_dims, features, features),
                )
                for _ in range(num_groups)
            ),
            convolution(spatial_dims, features, features),
        )
        self.upsampling = sub_pixel_upsampling(spatial_dims, features, self.scale)
        self.tail = convolution(spatial_dims, features, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.head(image)
        return self.tail(self.upsampling(maps + self.body(maps)))
