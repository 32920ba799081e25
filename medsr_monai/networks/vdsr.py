"""VDSR: a deep chain of convolutions adds a residual to the interpolated image."""

from __future__ import annotations

from torch import nn

from medsr_monai.networks.blocks import Scale
from medsr_monai.networks.upsampling import InterpolatedResidual

NOISE_GAIN = 0.1


class VDSR(InterpolatedResidual):
    """:class:`InterpolatedResidual` without normalisation; its arguments and errors are described there.

    Departs from the paper: the inner convolutions start near the identity, and the last one with small weights; one
    scale per network; three dimensions. A chain of 20 Kaiming convolutions loses positions, and a narrow one did not
    begin to learn in 600 iterations.

    Reference:
        Kim et al., doi:10.1109/CVPR.2016.182
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: Scale = 2,
        features: int = 64,
        depth: int = 20,
    ) -> None:
        super().__init__(spatial_dims, in_channels, out_channels, scale, features, depth)
        for layer in list(self.body)[2:-1]:
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                noise = NOISE_GAIN * layer.weight.data
                nn.init.dirac_(layer.weight).data.add_(noise)
