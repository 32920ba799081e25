"""Half-voxel-aligned interpolation and back-projection: the references that super-resolution has to beat."""

from medsr_monai.interpolation.back_projection import back_project
from medsr_monai.interpolation.resampling import METHODS, cubic_bspline, interpolate
from medsr_monai.interpolation.wavelet import wavelet_matrix

__all__ = ["METHODS", "back_project", "cubic_bspline", "interpolate", "wavelet_matrix"]
