"""Super-resolution by zero padding in wavelet space: the image is the approximation, the details are unknown."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from medsr_monai.system.optional import require

# Analysis by the average of two voxels, which is what a box acquisition measures, and the smooth symmetric synthesis
# that belongs to it (Cohen, Daubechies, Feauveau: 1.5). Symmetric filters of even length are centred between two
# voxels, as a low-resolution voxel is; those of odd length, such as 9/7, and orthogonal ones would shift the image.
WAVELET = "rbio1.5"


def _level_matrix(size: int) -> np.ndarray:
    """One level of synthesis without details, (2 * size, size) float64; beyond its border the image goes on."""
    pywt = require("pywt", "evaluate")
    wavelet = pywt.Wavelet(WAVELET)
    margin = wavelet.rec_len // 4 + 1
    extended = np.pad(np.eye(size), ((margin, margin), (0, 0)), mode="edge")
    # A low-pass filter sums to the square root of two: that is the gain of an approximation over an average.
    synthesised = pywt.idwt(math.sqrt(2) * extended, None, wavelet, axis=0)
    first = 2 * margin + 1 - wavelet.rec_len // 2
    return synthesised[first : first + 2 * size]


@lru_cache(maxsize=16)
def wavelet_matrix(n_in: int, n_out: int, resample: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """Interpolation of an axis by as many levels as reach ``n_out``, (n_out, n_in) float64.

    Where the factor is no power of two, the levels lead to a finer grid, on which ``resample`` then samples: also with
    half-voxel alignment, and on an image too smooth to alias.

    Args:
        n_in: voxels of the axis.
        n_out: voxels of the result.
        resample: gives the matrix between two grids that cover the same field of view.

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
