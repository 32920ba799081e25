"""Fidelity to a reference: PSNR, SSIM and mean errors, over the whole image or over its foreground.

Conventions:

- Images are (B, C, *spatial), 2D or 3D; the result is one number per image, shape (B,), without a gradient.
- ``data_range`` is the difference between the largest and the smallest possible value, 1 for a normalised image.
- A mask is (B or 1, C or 1, *spatial); only its nonzero voxels count. Without one, all voxels count.
- For foreground figures, both images are divided by the 99.5th percentile of the nonzero voxels of ``hr``
  (`foreground_percentile`). ``data_range`` is 1 and nothing is clipped. The mask is `foreground_mask`: brighter than
  0.05, dilated twice, zeroed voxels left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medsr_monai.metrics.pairs import check_range, checked_pair, counted, mean_inside
from medsr_monai.metrics.windows import check_sides, gaussian_weights, smooth
from medsr_monai.system.errors import InputError

SSIM_K1, SSIM_K2 = 0.01, 0.03
SSIM_WINDOW = 11
# SSIM holds about eight float maps of one slab at a time. A small slab needs little memory and fits the cache better.
SLAB_VOXELS = 2**21
SHORTEST_SLAB = 16


def mse(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error. Args and errors as for `psnr`. Returns: (B,)."""
    sr, hr = checked_pair(sr, hr)
    return mean_inside((sr - hr).square_(), mask)


def mae(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error. Args and errors as for `psnr`. Returns: (B,)."""
    sr, hr = checked_pair(sr, hr)
    return mean_inside((sr - hr).abs_(), mask)


def psnr(sr: Tensor, hr: Tensor, mask: Tensor | None = None, data_range: float = 1.0) -> Tensor:
    """Compute the peak signal-to-noise ratio ``10 log10(data_range^2 / mse)``; equal images give infinity.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the voxels that count; default all.
        data_range: difference between the largest and the smallest possible value.

    Returns:
        (B,) in dB.

    Raises:
        InputError: the shapes differ, the mask is empty, or a voxel is not finite.
    """
    check_range(data_range)
    return 20 * math.log10(data_range) - 10 * torch.log10(mse(sr, hr, mask))


def ssim_window(window: int, sigma: float | None) -> list[float]:
    """Compute the weights of the window along one axis; `ssim` describes the arguments and errors."""
    if window < 1 or window % 2 == 0:
        raise InputError(f"SSIM window {window} voxels: must be an odd number")
    if sigma is None:
        return [1.0 / window] * window
    if not sigma > 0:
        raise InputError(f"SSIM sigma {sigma} voxels: must be above 0, or None for equal weights")
    return gaussian_weights(window, sigma)


def _ssim_map(sr: Tensor, hr: Tensor, weights: list[float], data_range: float, luminance: bool) -> Tensor:
    """Compute ``(2 m_s m_h + c1)(2 v_sh + c2) / ((m_s^2 + m_h^2 + c1)(v_s + v_h + c2))`` where the window fits.

    Without luminance, compute only the second quotient.
    """
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    # An offset does not change variances, but near zero they lose fewer digits (CT in HU).
    offset = hr.mean()
    sr, hr = sr - offset, hr - offset
    mean_sr, mean_hr = smooth(sr, weights), smooth(hr, weights)
    covariance = smooth(sr * hr, weights) - mean_sr * mean_hr
    variances = (smooth(sr * sr, weights) - mean_sr * mean_sr) + (smooth(hr * hr, weights) - mean_hr * mean_hr)
    contrast = (2 * covariance + c2) / (variances + c2)
    if not luminance:
        return contrast
    mean_sr, mean_hr = mean_sr + offset, mean_hr + offset
    return contrast * ((2 * mean_sr * mean_hr + c1) / (mean_sr * mean_sr + mean_hr * mean_hr + c1))


def ssim_sums(
    sr: Tensor,
    hr: Tensor,
    mask: Tensor | None,
    data_range: float,
    weights: list[float],
    luminance: bool = True,
) -> tuple[Tensor, Tensor]:
    """Sum the map of `ssim` over the windows whose middle voxel counts.

    Both images are checked and have no side shorter than the window. Without luminance, compare only contrast and
    structure.

    Returns:
        The sums and the numbers of windows, both (B, C).
    """
    window = len(weights)
    inside = counted(mask, sr, window // 2, f" further than {window // 2} voxels from the image's border")
    count = inside.flatten(2).sum(dim=2)
    total = torch.zeros_like(count, dtype=sr.dtype)
    rows = inside.shape[2]
    step = max(SHORTEST_SLAB, SLAB_VOXELS // max(1, sr[:, :, 0].numel()))
    for start in range(0, rows, step):
        size = min(step, rows - start)
        sr_slab, hr_slab = (image.narrow(2, start, size + window - 1) for image in (sr, hr))
        values = _ssim_map(sr_slab, hr_slab, weights, data_range, luminance)
        total += torch.where(inside.narrow(2, start, size), values, 0).flatten(2).sum(dim=2)
    return total, count


def ssim(
    sr: Tensor,
    hr: Tensor,
    mask: Tensor | None = None,
    data_range: float = 1.0,
    window: int = SSIM_WINDOW,
    sigma: float | None = 1.5,
) -> Tensor:
    """Compute the structural similarity, averaged over the voxels around which the whole window is in the image.

    Windows are square or cubic. The statistics are those of the population, not the sample, so without a mask the value
    is that of ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)``.
    A mask selects among the same voxels; the windows of its outer voxels also use voxels outside it. Channels are
    averaged.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the voxels over which the map is averaged; default all.
        data_range: difference between the largest and the smallest possible value; scales the constants c1 and c2.
        window: side of the window in voxels, odd.
        sigma: width of the Gaussian window in voxels; None weights all voxels equally (then a window of 7 is usual).

    Returns:
        (B,), at most 1; equal images have 1.

    Raises:
        InputError: the shapes differ, a side is shorter than the window, the mask has no such voxel, or a voxel is not
            finite.

    Reference:
        Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity.
        doi:10.1109/TIP.2003.819861
    """
    check_range(data_range)
    weights = ssim_window(window, sigma)
    sr, hr = checked_pair(sr, hr)
    check_sides(sr, window, "the SSIM window")
    total, count = ssim_sums(sr, hr, mask, data_range, weights)
    return total.sum(dim=1) / count.sum(dim=1)
