"""MONAI dictionary transforms: thin wrappers that bring the physics and the geometry into a bundle's JSON."""

from medsr_monai.transforms.intensity import (
    DenoiseCurvatureFlowd,
    NormaliseIntensityd,
    RestoreIntensityd,
    intensity_window,
)
from medsr_monai.transforms.measurement import (
    Acquired,
    AcquisitionDraw,
    AcquisitionRange,
    RandAcquired,
    add_rician_noise,
    patch_matrix,
)
from medsr_monai.transforms.spatial import (
    CropToMultipled,
    ForegroundIndexd,
    RandAxisPermuted,
    RandForegroundCropd,
    ReorientToCanonicald,
    RequireSized,
    UpscaledGridd,
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
    "UpscaledGridd",
    "add_rician_noise",
    "intensity_window",
    "patch_matrix",
]
