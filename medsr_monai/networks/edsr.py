"""EDSR: residual blocks without normalisation and with scaled residuals."""

from __future__ import annotations

from torch import nn

from medsr_monai.networks.blocks import Residual, Scale, convolution
from medsr_monai.networks.upsampling import SubPixelGenerator


class EDSR(SubPixelGenerator):
    """:class:`SubPixelGenerator` of two convolutions with a ReLU, times ``residual_scale``, and no normalisation.

    The defaults are the paper's baseline with the residual scaling of its large model (32 blocks, 256 features).
    Departs from the paper: no mean colour is subtracted; three dimensions; any integer scale (one stage per prime
    factor).

    Args:
        num_blocks: residual blocks.
        residual_scale: weight of each block's residual.

    Reference:
        Lim et al., doi:10.1109/CVPRW.2017.151
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: Scale = 2,
        features: int = 64,
        num_blocks: int = 16,
        residual_scale: float = 0.1,
    ) -> None:
        def block() -> nn.Module:
            first, second = (convolution(spatial_dims, features, features) for _ in range(2))
            return Residual(first, nn.ReLU(inplace=True), second, residual_scale=residual_scale)

        super().__init__(spatial_dims, in_channels, out_channels, scale, features, num_blocks, block)
