"""RCAN: residual groups of blocks that weight each channel by the channels' means over the whole image."""

from __future__ import annotations

from torch import Tensor, nn

from medsr_monai.networks.blocks import Residual, Scale, check_counts, convolution
from medsr_monai.networks.upsampling import SubPixelGenerator
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


class RCAN(SubPixelGenerator):
    """:class:`SubPixelGenerator` of residual groups: blocks with channel attention, and a convolution.

    Channel attention sees the mean of the whole image. So this network cannot be streamed, and in windows or patches
    its result differs from that of the whole image. Departs from the paper: no mean colour is subtracted; three
    dimensions; any integer scale (one stage per prime factor).

    Args:
        num_groups: residual groups.
        num_blocks: channel attention blocks in each group.
        reduction: divides the channels within the attention.

    Reference:
        Zhang et al., doi:10.1007/978-3-030-01234-2_18
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: Scale = 2,
        features: int = 64,
        num_groups: int = 10,
        num_blocks: int = 20,
        reduction: int = 16,
    ) -> None:
        check_counts(features=features, num_groups=num_groups, num_blocks=num_blocks, reduction=reduction)
        if reduction > features:
            raise InputError(f"reduction {reduction}: must not exceed features, which is {features}")

        def block() -> nn.Module:
            first, second = (convolution(spatial_dims, features, features) for _ in range(2))
            return Residual(first, nn.ReLU(inplace=True), second, ChannelAttention(spatial_dims, features, reduction))

        def group() -> nn.Module:
            return Residual(*(block() for _ in range(num_blocks)), convolution(spatial_dims, features, features))

        super().__init__(spatial_dims, in_channels, out_channels, scale, features, num_groups, group)
