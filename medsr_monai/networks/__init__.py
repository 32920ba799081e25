"""Networks: one paper, one file."""

from medsr_monai.networks.discriminators import (
    DCGANDiscriminator,
    Discriminator,
    MultiScalePatchDiscriminator,
    UNetDiscriminator,
    VGGDiscriminator,
)
from medsr_monai.networks.efficientnet import EfficientNetLiteFeatures
from medsr_monai.networks.features import ConvolutionalFeatures, MedicalNetFeatures, OnSlices, VGG19Features
from medsr_monai.networks.rrdb import RRDBNet
from medsr_monai.networks.weights import initial_network, load_interpolated_weights, load_weights

__all__ = [
    "ConvolutionalFeatures",
    "DCGANDiscriminator",
    "Discriminator",
    "EfficientNetLiteFeatures",
    "MedicalNetFeatures",
    "MultiScalePatchDiscriminator",
    "OnSlices",
    "RRDBNet",
    "UNetDiscriminator",
    "VGG19Features",
    "VGGDiscriminator",
    "initial_network",
    "load_interpolated_weights",
    "load_weights",
]
