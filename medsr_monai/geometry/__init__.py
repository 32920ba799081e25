"""Grids, their affine and orientation, the planes of the body, and resampling between aligned grids."""

from medsr_monai.geometry.grid import (
    N_AXES,
    Grid,
    Orientation,
    Scale,
    corner_error_mm,
    inverse_orientation,
    parse_orientation,
    reorient,
)
from medsr_monai.geometry.network_axes import AXES, network_orientation
from medsr_monai.geometry.resampling import METHODS, cubic_bspline, interpolate
from medsr_monai.geometry.wavelet import wavelet_matrix

__all__ = [
    "AXES",
    "METHODS",
    "N_AXES",
    "Grid",
    "Orientation",
    "Scale",
    "corner_error_mm",
    "cubic_bspline",
    "interpolate",
    "inverse_orientation",
    "network_orientation",
    "parse_orientation",
    "reorient",
    "wavelet_matrix",
]
