"""Slice profiles and k-space truncation as the matrix of one axis."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import erf

from medsr_monai.system.errors import InputError

PROFILES = ("box", "gaussian", "kspace")
_ROWS = 64
FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))


def _check_sizes(n_hr: int, n_lr: int) -> None:
    if n_lr < 1 or n_hr < n_lr:
        raise InputError(f"{n_lr} low-resolution voxels, but need 1 to {n_hr}, the number of high-resolution voxels")


def _by_rows(n_hr: int, n_lr: int, weights: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Build a matrix whose rows sum to one, block by block: for a long axis, a whole step takes tens of MB.

    ``weights`` maps the centres of low-resolution voxels (m, 1), in high-resolution indices, to their rows (m, n_hr).
    """
    matrix, centres = np.empty((n_lr, n_hr)), (np.arange(n_lr)[:, None] + 0.5) * n_hr / n_lr - 0.5
    for start in range(0, n_lr, _ROWS):
        rows = weights(centres[start : start + _ROWS])
        matrix[start : start + _ROWS] = rows / rows.sum(axis=1, keepdims=True)
    return matrix


def box_matrix(n_hr: int, n_lr: int, width: float | None = None) -> np.ndarray:
    """Average over the given width around every low-resolution voxel centre.

    Args:
        n_hr: voxels along the axis at high resolution.
        n_lr: voxels along the axis at low resolution; the factor ``n_hr / n_lr`` need not be an integer.
        width: of the average, in high-resolution voxels; default is the whole low-resolution voxel. A smaller width
            leaves a slice gap; with a larger one, slices overlap.

    Returns:
        (n_lr, n_hr) float64 matrix whose rows sum to one.

    Raises:
        InputError: a size is out of range, or the width is not positive.
    """
    _check_sizes(n_hr, n_lr)
    width = n_hr / n_lr if width is None else width
    if not width > 0:
        raise InputError(f"slice thickness {width} voxels: must be above 0")
    edges = np.arange(n_hr + 1)[None, :] - 0.5
    return _by_rows(n_hr, n_lr, lambda centres: np.diff(np.clip(edges, centres - width / 2, centres + width / 2)))


def gaussian_matrix(n_hr: int, n_lr: int, fwhm: float) -> np.ndarray:
    """Weight by a Gaussian slice profile, integrated over each high-resolution voxel; otherwise as :func:`box_matrix`.

    Args:
        n_hr: voxels along the axis at high resolution.
        n_lr: voxels along the axis at low resolution.
        fwhm: full width at half maximum in high-resolution voxels; 0 samples the voxel at the centre.
    """
    _check_sizes(n_hr, n_lr)
    if not fwhm >= 0:
        raise InputError(f"slice profile FWHM {fwhm} voxels: must be 0 or more")
    sigma = max(fwhm * FWHM_TO_SIGMA, 1e-6)
    edges = np.arange(n_hr + 1)[None, :] - 0.5
    return _by_rows(n_hr, n_lr, lambda centres: np.diff(0.5 * erf((edges - centres) / (sigma * math.sqrt(2.0)))))


def kspace_matrix(n_hr: int, n_lr: int) -> np.ndarray:
    """Keep the ``n_lr`` lowest spatial frequencies (periodic boundary), sampled at the low-resolution voxel centres.

    If ``n_lr`` is even, the Nyquist frequency counts half on either side, which keeps the matrix real; otherwise as
    :func:`box_matrix`.
    """
    _check_sizes(n_hr, n_lr)
    if n_lr == n_hr:
        return np.eye(n_hr)
    full_orders = (n_lr - 1) // 2

    def weights(centres: np.ndarray) -> np.ndarray:
        angle = np.pi / n_hr * (centres - np.arange(n_hr)[None, :])
        # The Dirichlet kernel 1 + 2 cos(2 angle) + 2 cos(4 angle) + ...; its limit at 0 is the number of its terms.
        denominator = np.sin(angle)
        at_zero = np.abs(denominator) < 1e-9
        kernel = np.sin((2 * full_orders + 1) * angle) / np.where(at_zero, 1.0, denominator)
        kernel = np.where(at_zero, 2.0 * full_orders + 1.0, kernel)
        return kernel + np.cos(n_lr * angle) if n_lr % 2 == 0 else kernel

    return _by_rows(n_hr, n_lr, weights)


def profile_matrix(profile: str, n_hr: int, n_lr: int, fwhm: float | None = None, gap: float = 0.0) -> np.ndarray:
    """Build the matrix of one axis from the name of its profile.

    Args:
        profile: ``box``, ``gaussian`` or ``kspace``.
        n_hr: voxels along the axis at high resolution.
        n_lr: voxels along the axis at low resolution.
        fwhm: width of the profile in high-resolution voxels; default is the low-resolution spacing minus the gap.
        gap: space between neighbouring slices in high-resolution voxels (box and Gaussian).

    Returns:
        (n_lr, n_hr) float64 matrix.

    Raises:
        InputError: the profile is unknown, or a size, the width or the gap is out of range.
    """
    _check_sizes(n_hr, n_lr)
    if gap < 0 or gap * n_lr >= n_hr:
        raise InputError(f"slice gap {gap} voxels: must be at least 0 and below the slice spacing {n_hr / n_lr:g}")
    width = n_hr / n_lr - gap if fwhm is None else fwhm
    if profile == "box":
        return box_matrix(n_hr, n_lr, width)
    if profile == "gaussian":
        # An axis that keeps its resolution has no slices: its default profile is the identity.
        return gaussian_matrix(n_hr, n_lr, 0.0 if fwhm is None and n_hr == n_lr else width)
    if profile == "kspace":
        return kspace_matrix(n_hr, n_lr)
    raise InputError(f"profile '{profile}': choose one of {', '.join(PROFILES)}")
