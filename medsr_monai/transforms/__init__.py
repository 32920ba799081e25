"""MONAI dictionary transforms: thin wrappers that bring the physics and the geometry into a bundle's JSON."""

from medsr_monai.transforms.intensity import (
    DenoiseCurvatureFlowd,
    NormaliseIntensityd,
    RestoreIntensityd,
)
from medsr_monai.transforms.measurement import Acquired, RandAcquired
from medsr_monai.transforms.spatial import (
    CropToMultipled,
    ForegroundIndexd,
    MiddleSliced,
    RandAxisPermuted,
    RandForegroundCropd,
    ReorientToNetworkd,
    RequireSized,
)

__all__ = [
    "Acquired",
    "CropToMultipled",
    "DenoiseCurvatureFlowd",
    "ForegroundIndexd",
    "MiddleSliced",
    "NormaliseIntensityd",
    "RandAcquired",
    "RandAxisPermuted",
    "RandForegroundCropd",
    "ReorientToNetworkd",
    "RequireSized",
    "RestoreIntensityd",
]
