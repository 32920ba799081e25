"""SRResNet: the generator of SRGAN, with residual blocks at low resolution and sub-pixel convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medsr_monai.networks.blocks import BATCH_NORMS, check_counts, check_kernel, convolution, scale_per_axis
from medsr_monai.networks.upsampling import sub_pixel_upsampling


def _convolution(spatial_dims: int, features: int, batch_norm: bool) -> nn.Sequential:
    conv = convolution(spatial_dims, features, features, bias=not batch_norm)
    return nn.Sequential(conv, BATCH_NORMS[spatial_dims](features)) if batch_norm else nn.Sequential(conv)


class ResidualBlock(nn.Module):
    """Two convolutions with batch normalisation and a PReLU between them; the result is added to the input.

    Args:
        spatial_dims: 2 or 3.
        features: channels in and out.
        batch_norm: whether to normalise.

    Shape:
        (B, features, *spatial) -> the same
    """

    def __init__(self, spatial_dims: int, features: int, batch_norm: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(spatial_dims, features, batch_norm),
            nn.PReLU(),
            _convolution(spatial_dims, features, batch_norm),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.body(maps)


class SRResNet(nn.Module):
    """``sr = tail(upsample(f + body(f)))`` with ``f = head(lr)``, without interpolation.

    Departs from the paper: three dimensions; any integer scale (one stage per prime factor); a smaller last convolution
    than 9 voxels on request, because 9 voxels mean 729 weights in three dimensions.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the low-resolution image.
        out_channels: channels of the output.
        scale: integer factor of 1 to 8, or one per axis, e.g. ``(1, 1, 4)``.
        features: channels of the trunk.
        num_blocks: residual blocks.
        end_kernel: size of the first and of the last convolution, odd.
        batch_norm: True as in the paper; False for no normalisation.

    Shape:
        (B, in_channels, *spatial) -> (B, out_channels, *(scale * spatial))

    Raises:
        InputError: a parameter is out of range; the message names it.

    Reference:
        Ledig et al., doi:10.1109/CVPR.2017.19
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 2,
        features: int = 64,
        num_blocks: int = 16,
        end_kernel: int = 9,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.scale = scale_per_axis(scale, spatial_dims)
        check_counts(in_channels=in_channels, out_channels=out_channels, features=features, num_blocks=num_blocks)
        check_kernel("end_kernel", end_kernel)
        self.spatial_dims = spatial_dims
        self.out_channels = out_channels
        self.head = nn.Sequential(convolution(spatial_dims, in_channels, features, end_kernel), nn.PReLU())
        self.body = nn.Sequential(
            *(ResidualBlock(spatial_dims, features, batch_norm) for _ in range(num_blocks)),
            _convolution(spatial_dims, features, batch_norm),
        )
        self.upsampling = sub_pixel_upsampling(spatial_dims, features, self.scale, nn.PReLU)
        self.tail = convolution(spatial_dims, features, out_channels, end_kernel)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.head(image)
        return self.tail(self.upsampling(maps + self.body(maps)))
