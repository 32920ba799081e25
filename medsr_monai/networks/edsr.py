"""EDSR: residual blocks without normalisation and with scaled residuals."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medsr_monai.networks.blocks import check_counts, convolution, scale_per_axis
from medsr_monai.networks.upsampling import sub_pixel_upsampling


class ScaledResidualBlock(nn.Module):
    """Two convolutions with a ReLU between them; the result is scaled and added to the input.

    Args:
        spatial_dims: 2 or 3.
        features: channels in and out.
        residual_scale: weight of the residual.

    Shape:
        (B, features, *spatial) -> the same
    """

    def __init__(self, spatial_dims: int, features: int, residual_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(spatial_dims, features, features),
            nn.ReLU(inplace=True),
            convolution(spatial_dims, features, features),
        )
        self.residual_scale = residual_scale

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.body(maps) * self.residual_scale


class EDSR(nn.Module):
    """``sr = tail(upsample(f + body(f)))`` with ``f = head(lr)``, and no normalisation.

    The defaults are the paper's baseline with the residual scaling of its large model (32 blocks, 256 features).
    Departs from the paper: no mean colour is subtracted; three dimensions; any integer scale (one stage per prime
    factor).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the low-resolution image.
        out_channels: channels of the output.
        scale: integer factor of 1 to 8, or one per axis, e.g. ``(1, 1, 4)``.
        features: channels of the trunk.
        num_blocks: residual blocks.
        residual_scale: weight of each block's residual.

    Shape:
        (B, in_channels, *spatial) -> (B, out_channels, *(scale * spatial))

    Raises:
        InputError: a parameter is out of range; the message names it.

    Reference:
        Lim et al., doi:10.1109/CVPRW.2017.151
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 2,
        features: int = 64,
        num_blocks: int = 16,
        residual_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.scale = scale_per_axis(scale, spatial_dims)
        check_counts(in_channels=in_channels, out_channels=out_channels, features=features, num_blocks=num_blocks)
        self.spatial_dims = spatial_dims
        self.out_channels = out_channels
        self.head = convolution(spatial_dims, in_channels, features)
        self.body = nn.Sequential(
            *(ScaledResidualBlock(spatial_dims, features, residual_scale) for _ in range(num_blocks)),
            convolution(spatial_dims, features, features),
        )
        self.upsampling = sub_pixel_upsampling(spatial_dims, features, self.scale)
        self.tail = convolution(spatial_dims, features, out_channels)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.head(image)
        return self.tail(self.upsampling(maps + self.body(maps)))
