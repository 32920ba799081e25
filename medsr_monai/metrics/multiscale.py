"""SSIM on several scales; each has half the resolution of the previous one."""

from __future__ import annotations

import torch
from torch import Tensor

from medsr_monai.metrics.fidelity import SSIM_WINDOW, ssim_sums, ssim_window
from medsr_monai.metrics.pairs import check_range, checked_pair, counted, refuse_flat
from medsr_monai.metrics.windows import check_sides, halved
from medsr_monai.system.errors import InputError

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(
    sr: Tensor,
    hr: Tensor,
    mask: Tensor | None = None,
    data_range: float = 1.0,
    scales: int = len(SCALE_WEIGHTS),
    window: int = SSIM_WINDOW,
    sigma: float | None = 1.5,
) -> Tensor:
    """Compute ``l_M^w_M prod_j cs_j^w_j``: SSIM's contrast and structure on every scale, luminance on the coarsest.

    Each scale averages 2 x 2 (x 2) voxels of the previous one; the last voxel of an odd side is repeated. The mean of a
    scale is over the voxels around which the whole window fits; a negative mean counts as zero. With fewer than five
    scales, the first weights are divided by their sum. Compare only figures with the same number of scales.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the voxels over which the maps are averaged; default all. A coarse voxel
            counts if one of its voxels does.
        data_range: difference between the largest and the smallest possible value.
        scales: 1 to 5. With the usual window, five need sides of 161 voxels, four 81, three 41, two 21.
        window: see `ssim`.
        sigma: see `ssim`.

    Returns:
        (B,), at most 1; equal images have 1. Channels are averaged.

    Raises:
        InputError: the shapes differ, a side is too short for the scales, the reference is flat, the mask has no voxel
            around which the window of a scale fits, or a voxel is not finite.

    Reference:
        Wang, Simoncelli, Bovik: Multiscale structural similarity for image quality assessment.
        doi:10.1109/ACSSC.2003.1292216
    """
    if scales not in range(1, len(SCALE_WEIGHTS) + 1):
        raise InputError(f"MS-SSIM on {scales} scales: must be 1 to {len(SCALE_WEIGHTS)}")
    check_range(data_range)
    weights = ssim_window(window, sigma)
    sr, hr = checked_pair(sr, hr)
    check_sides(sr, (window - 1) * 2 ** (scales - 1) + 1, f"MS-SSIM on {scales} scales (or use fewer)")
    refuse_flat(hr)
    inside = counted(mask, sr).to(sr.dtype)
    product = torch.ones((), dtype=sr.dtype, device=sr.device)
    for scale in range(scales):
        if scale:
            sr, hr, inside = (halved(image, "replicate") for image in (sr, hr, inside))
        total, count = ssim_sums(sr, hr, inside, data_range, weights, luminance=scale == scales - 1)
        # The five weights of the paper sum to 1.0001 and are used as printed.
        exponent = SCALE_WEIGHTS[scale] / (1 if scales == len(SCALE_WEIGHTS) else sum(SCALE_WEIGHTS[:scales]))
        # nanmean leaves out a channel that has no voxel in the mask.
        product = product * (total / count).clamp(min=0) ** exponent
    return product.nanmean(dim=1)
