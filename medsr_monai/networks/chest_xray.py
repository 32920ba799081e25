"""The two models of the chest X-ray study: a residual CNN, and a GAN with generator and discriminator.

The study compares them in a reading of chest X-rays for image quality and diagnostic usefulness. These classes follow
the outline of the study. The CNN has five layers of 64 filters with batch normalisation and a residual, and is trained
with the squared error and SGD. The GAN has six residual blocks and a discriminator of four convolutions, and is trained
with Adam (learning rate 2e-4, betas 0.5 and 0.999). Each class says what the outline leaves open.
"""

from __future__ import annotations

from typing import Any

from medsr_monai.networks.blocks import Scale
from medsr_monai.networks.discriminators import DCGANDiscriminator
from medsr_monai.networks.srresnet import SRResNet
from medsr_monai.networks.upsampling import InterpolatedResidual


class ChestXrayResidualCNN(InterpolatedResidual):
    """:class:`InterpolatedResidual` with normalised inner convolutions; its arguments and errors are described there.

    Our choices, which the outline leaves open: kernels of 3, ReLUs, cubic interpolation, no normalisation of the first
    and the last layer (as in DnCNN, doi:10.1109/TIP.2017.2662206), small initial weights in the last layer, three
    dimensions.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: Scale = 2,
        features: int = 64,
        depth: int = 5,
    ) -> None:
        super().__init__(spatial_dims, in_channels, out_channels, scale, features, depth, batch_norm=True)


class ChestXrayGenerator(SRResNet):
    """:class:`SRResNet` with six residual blocks. The outline leaves the rest open; it is as in SRGAN."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{"num_blocks": 6, **named})


class ChestXrayDiscriminator(DCGANDiscriminator):
    """:class:`DCGANDiscriminator` of four convolutions: three halve the image, the last makes a map of verdicts.

    Our choices, which the outline leaves open: kernels of 4 and strides of 2, doubled channels, leaky ReLUs, the mean
    over the map.
    """

    halvings = 3
