"""SRResNet: the generator of SRGAN, with residual blocks at low resolution and sub-pixel convolutions."""

from __future__ import annotations

from torch import nn

from medsr_monai.networks.blocks import BATCH_NORMS, Residual, Scale, check_kernel, convolution
from medsr_monai.networks.upsampling import SubPixelGenerator


class SRResNet(SubPixelGenerator):
    """:class:`SubPixelGenerator` of convolution, batch normalisation, PReLU, convolution, batch normalisation.

    Departs from the paper: three dimensions; any integer scale (one stage per prime factor); a smaller last convolution
    than 9 voxels on request, because 9 voxels mean 729 weights in three dimensions.

    Args:
        num_blocks: residual blocks.
        end_kernel: size of the first and of the last convolution, odd.
        batch_norm: True as in the paper; False for no normalisation.

    Reference:
        Ledig et al., doi:10.1109/CVPR.2017.19
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: Scale = 2,
        features: int = 64,
        num_blocks: int = 16,
        end_kernel: int = 9,
        batch_norm: bool = True,
    ) -> None:
        check_kernel("end_kernel", end_kernel)

        def normalised() -> nn.Module:
            conv = convolution(spatial_dims, features, features, bias=not batch_norm)
            return nn.Sequential(conv, BATCH_NORMS[spatial_dims](features)) if batch_norm else nn.Sequential(conv)

        super().__init__(
            *(spatial_dims, in_channels, out_channels, scale, features, num_blocks),
            block=lambda: Residual(normalised(), nn.PReLU(), normalised()),
            last=normalised,
            end_kernel=end_kernel,
            activation=nn.PReLU,
        )
