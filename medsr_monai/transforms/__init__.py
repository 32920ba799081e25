"""MONAI dictionary transforms: thin wrappers that bring the physics and the geometry into a bundle's JSON."""

from medsr_monai.acquisition.drawing import AcquisitionDraw, AcquisitionRange, patch_matrix
from medsr_monai.acquisition.noise import add_rician_noise
from medsr_monai.transforms.intensity import (
    DenoiseCurvatureFlowd,
    NormaliseIntensityd,
    RestoreIntensityd,
)
from medsr_monai.transforms.measurement import Acquired, RandAcquired
from medsr_monai.transforms.spatial import (
    CropToMultipled,
    ForegroundIndexd,
    RandAxisPermuted,
    RandForegroundCropd,
    ReorientToCanonicald,
    RequireSized,
)

__all__ = [
    "Acquired",
    "AcquisitionDraw",
    "AcquisitionRange",
    "CropToMultipled",
    "DenoiseCurvatureFlowd",
    "ForegroundIndexd",
    "NormaliseIntensityd",
    "RandAcquired",
    "RandAxisPermuted",
    "RandForegroundCropd",
    "ReorientToCanonicald",
    "RequireSized",
    "RestoreIntensityd",
    "add_rician_noise",
    "patch_matrix",
]
