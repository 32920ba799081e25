"""Super-resolution by zero padding in wavelet space: the image is the approximation, the details are zero."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from medsr_monai.system.optional import require

# The analysis averages two voxels, as a box acquisition does. The synthesis is smooth and symmetric (Cohen, Daubechies,
# Feauveau: 1.5). Symmetric filters of even length are centred between two voxels, as a low-resolution voxel is.
# Filters of odd length, such as 9/7, and orthogonal filters shift the image.
WAVELET = "rbio1.5"


def _level_matrix(size: int) -> np.ndarray:
    """One level of synthesis with zero details, (2 * size, size) float64; the border value continues outside."""
    pywt = require("pywt", "evaluate")
    wavelet = pywt.Wavelet(WAVELET)
    margin = wavelet.rec_len // 4 + 1
    extended = np.pad(np.eye(size), ((margin, margin), (0, 0)), mode="edge")
    # The low-pass filter sums to sqrt(2), so an approximation is sqrt(2) times an average.
    synthesised = pywt.idwt(math.sqrt(2) * extended, None, wavelet, axis=0)
    first = 2 * margin + 1 - wavelet.rec_len // 2
    return synthesised[first : first + 2 * size]


def wavelet_matrix(n_in: int, n_out: int, resample: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """Interpolate an axis with as many wavelet levels as ``n_out`` needs.

    If the factor is not a power of two, the levels lead to a finer grid, and ``resample`` samples it with half-voxel
    alignment. That image is too smooth to alias.

    Args:
        n_in: voxels of the axis.
        n_out: voxels of the result.
        resample: gives the matrix between two grids that cover the same field of view.

    Returns:
        (n_out, n_in) float64.

    Raises:
        MissingExtraError: PyWavelets is not installed.

    Reference:
        Cohen, Daubechies, Feauveau, doi:10.1002/cpa.3160450502
    """
    levels = max(0, math.ceil(math.log2(n_out / n_in)))
    matrix = np.eye(n_in)
    for level in range(levels):
        matrix = _level_matrix(n_in << level) @ matrix
    return matrix if n_in << levels == n_out else resample(n_in << levels, n_out) @ matrix
