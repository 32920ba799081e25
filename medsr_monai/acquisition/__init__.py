"""The physics of a separable acquisition: one matrix per axis maps a high-resolution image to the measurement.

The model of a low-resolution scan is ``lr = (A_0 x A_1 x A_2) hr``. Along every axis, ``A_i`` is a slice profile (box
or Gaussian) or a truncation of k-space, sampled at the centres of the low-resolution voxels. Both grids cover the same
field of view, so low-resolution voxel ``i`` is centred at ``(i + 0.5) * n_hr / n_lr - 0.5`` in high-resolution voxel
indices. The rows sum to one, so a constant image does not change.

The operator is separable, and so is its singular value decomposition. The pseudo-inverse and the Tikhonov-damped
inverse take a few small matrix products and no iterations.
"""

from medsr_monai.acquisition.back_projection import back_project
from medsr_monai.acquisition.drawing import AcquisitionDraw, AcquisitionRange, patch_matrix
from medsr_monai.acquisition.intensity import FixedWindow, IntensityRule, RobustRange
from medsr_monai.acquisition.noise import add_rician_noise
from medsr_monai.acquisition.profiles import (
    FWHM_TO_SIGMA,
    PROFILES,
    box_matrix,
    gaussian_matrix,
    kspace_matrix,
    profile_matrix,
)
from medsr_monai.acquisition.separable import RELATIVE_CUTOFF, SeparableAcquisition, apply_matrix
from medsr_monai.acquisition.slabs import SlabProjection

__all__ = [
    "FWHM_TO_SIGMA",
    "PROFILES",
    "RELATIVE_CUTOFF",
    "AcquisitionDraw",
    "AcquisitionRange",
    "FixedWindow",
    "IntensityRule",
    "RobustRange",
    "SeparableAcquisition",
    "SlabProjection",
    "add_rician_noise",
    "apply_matrix",
    "back_project",
    "box_matrix",
    "gaussian_matrix",
    "kspace_matrix",
    "patch_matrix",
    "profile_matrix",
]
