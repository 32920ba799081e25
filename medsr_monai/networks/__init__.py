"""Networks: one file per paper."""

from medsr_monai.networks.chest_xray import ChestXrayDiscriminator, ChestXrayGenerator, ChestXrayResidualCNN
from medsr_monai.networks.discriminators import (
    DCGANDiscriminator,
    Discriminator,
    MultiScalePatchDiscriminator,
    UNetDiscriminator,
    VGGDiscriminator,
)
from medsr_monai.networks.edsr import EDSR
from medsr_monai.networks.efficientnet import EfficientNetLiteFeatures
from medsr_monai.networks.features import ConvolutionalFeatures, MedicalNetFeatures, OnSlices, VGG19Features
from medsr_monai.networks.mdcsrn import MDCSRN
from medsr_monai.networks.rcan import RCAN
from medsr_monai.networks.rrdb import RRDBNet
from medsr_monai.networks.srcnn import SRCNN
from medsr_monai.networks.srresnet import SRResNet
from medsr_monai.networks.vdsr import VDSR
from medsr_monai.networks.weights import initial_network, load_interpolated_weights, load_weights

__all__ = [
    "EDSR",
    "MDCSRN",
    "RCAN",
    "SRCNN",
    "VDSR",
    "ChestXrayDiscriminator",
    "ChestXrayGenerator",
    "ChestXrayResidualCNN",
    "ConvolutionalFeatures",
    "DCGANDiscriminator",
    "Discriminator",
    "EfficientNetLiteFeatures",
    "MedicalNetFeatures",
    "MultiScalePatchDiscriminator",
    "OnSlices",
    "RRDBNet",
    "SRResNet",
    "UNetDiscriminator",
    "VGG19Features",
    "VGGDiscriminator",
    "initial_network",
    "load_interpolated_weights",
    "load_weights",
]
