"""Networks: one paper, one file."""

from medsr_monai.networks.discriminators import (
    DCGANDiscriminator,
    Discriminator,
    MultiScalePatchDiscriminator,
    UNetDiscriminator,
    VGGDiscriminator,
)
from medsr_monai.networks.rrdb import RRDBNet
from medsr_monai.networks.weights import initial_network, load_interpolated_weights, load_weights

__all__ = [
    "DCGANDiscriminator",
    "Discriminator",
    "MultiScalePatchDiscriminator",
    "RRDBNet",
    "UNetDiscriminator",
    "VGGDiscriminator",
    "initial_network",
    "load_interpolated_weights",
    "load_weights",
]
