"""VDSR: a deep chain of convolutions adds a residual to the interpolated image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medsr_monai.networks.blocks import (
    check_counts,
    check_residual_channels,
    convolution,
    initialise_kaiming_,
    scale_per_axis,
)
from medsr_monai.networks.upsampling import CubicUpsampling
from medsr_monai.system.errors import InputError

TAIL_GAIN = 0.1
NOISE_GAIN = 0.1


class VDSR(nn.Module):
    """``sr = interpolate(lr) + body(interpolate(lr))``; the body is a chain of 3-voxel convolutions and ReLUs.

    Departs from the paper: the inner convolutions start near the identity, and the last one with small weights; one
    scale per network; three dimensions. A chain of 20 Kaiming convolutions loses positions, and a narrow one did not
    begin to learn in 600 iterations.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the low-resolution image.
        out_channels: channels of the output; they are residuals on the first ``out_channels`` input channels.
        scale: integer factor of 1 to 8, or one per axis, e.g. ``(1, 1, 4)``.
        features: channels between the convolutions.
        depth: convolutions, 2 or more.

    Shape:
        (B, in_channels, *spatial) -> (B, out_channels, *(scale * spatial))

    Raises:
        InputError: a parameter is out of range; the message names it.

    Reference:
        Kim et al., doi:10.1109/CVPR.2016.182
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 2,
        features: int = 64,
        depth: int = 20,
    ) -> None:
        super().__init__()
        self.scale = scale_per_axis(scale, spatial_dims)
        check_residual_channels(in_channels, out_channels)
        check_counts(features=features)
        if depth < 2:
            raise InputError(f"depth {depth}: must be at least 2")
        self.spatial_dims = spatial_dims
        self.out_channels = out_channels
        self.upsampling = CubicUpsampling(self.scale)
        layers: list[nn.Module] = [convolution(spatial_dims, in_channels, features), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [convolution(spatial_dims, features, features), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, convolution(spatial_dims, features, out_channels))
        initialise_kaiming_(self, self.body[-1], TAIL_GAIN)
        for layer in list(self.body)[2:-1]:
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                noise = NOISE_GAIN * layer.weight.data
                nn.init.dirac_(layer.weight).data.add_(noise)

    def forward(self, image: Tensor) -> Tensor:
        image = self.upsampling(image)
        return image[:, : self.out_channels] + self.body(image)
