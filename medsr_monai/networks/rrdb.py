"""The generator of ESRGAN in two and three dimensions; all its convolutions run on the low-resolution grid."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from medsr_monai.networks.blocks import (
    NEGATIVE_SLOPE,
    RRDB,
    TAIL_GAIN,
    Generator,
    PixelShuffle,
    Scale,
    check_residual_channels,
    convolution,
    initialise_icnr_,
    initialise_kaiming_,
)


class RRDBNet(Generator):
    """Residual-in-residual dense network whose output is a residual on the interpolated input's first channels.

    ``sr = interpolate(lr) + shuffle(tail(f + body(f)))`` with ``f = head(lr)``. Every convolution runs on the
    low-resolution grid, and an N-D pixel shuffle comes last. There are no normalisation layers, so the output does not
    depend on statistics of the patch, and the network can be streamed exactly.

    Args:
        features: channels of the trunk.
        growth: channels that each dense convolution adds. Multiples of 16 are fastest on CPUs.
        num_blocks: residual-in-residual dense blocks.
        dense_blocks: dense blocks of five convolutions in each RRDB.
        residual_scale: weight of each residual branch.
        initial_gain: multiplies the Kaiming initialisation of the body. ESRGAN starts its 23 blocks at 0.1.

    Attributes:
        receptive_radius: low-resolution voxels on each side that an output voxel can depend on.

    Reference:
        Wang et al., ESRGAN, doi:10.1007/978-3-030-11021-5_5
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: Scale = 2,
        features: int = 32,
        growth: int = 16,
        num_blocks: int = 1,
        dense_blocks: int = 3,
        residual_scale: float = 0.2,
        initial_gain: float = 0.5,
    ) -> None:
        check_residual_channels(in_channels, out_channels)
        counts = {"features": features, "growth": growth, "num_blocks": num_blocks, "dense_blocks": dense_blocks}
        super().__init__(spatial_dims, in_channels, out_channels, scale, **counts)
        self.interpolation = "bilinear" if spatial_dims == 2 else "trilinear"
        self.scale_factor = [float(s) for s in self.scale]
        factor = math.prod(self.scale)
        self.head = convolution(spatial_dims, in_channels, features)
        self.body = nn.Sequential(
            *(RRDB(spatial_dims, features, growth, dense_blocks, residual_scale) for _ in range(num_blocks)),
            convolution(spatial_dims, features, features),
        )
        self.tail = nn.Sequential(
            convolution(spatial_dims, features, features),
            nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
            convolution(spatial_dims, features, out_channels * factor),
            PixelShuffle(self.scale),
        )
        # Half a kernel per convolution of the longest chain, which here has all convolutions. The interpolation's
        # radius of 1 is smaller.
        convolutions = [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
        self.receptive_radius = sum(conv.kernel_size[0] // 2 for conv in convolutions)
        initialise_kaiming_(self, slope=NEGATIVE_SLOPE)
        for module in self.body.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.weight.data.mul_(initial_gain)
        initialise_icnr_(convolutions[-1].weight, factor, TAIL_GAIN)

    def forward(self, image: Tensor) -> Tensor:
        features = self.head(image)
        residual = self.tail(features + self.body(features))
        base = functional.interpolate(
            image[:, : self.out_channels], scale_factor=self.scale_factor, mode=self.interpolation, align_corners=False
        )
        return base + residual
