"""VIF: the share of the reference's information in an image, by a model of natural scenes in the pixel domain.

The authors' code for the pixel domain (VIFp) is for 2D images. In our extension to 3D, the same Gaussian windows have a
third axis. Its figures are not comparable with those of slices.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from medsr_monai.metrics.pairs import check_range, checked_pair, counted, cropped, refuse_flat, refuse_where
from medsr_monai.metrics.windows import check_sides, gaussian_weights, smooth

# The authors' values for intensities from 0 to 255: the variance of the visual noise, and a window for each scale.
PAPER_RANGE, NOISE_VARIANCE = 255.0, 2.0
WINDOWS = (17, 9, 5, 3)
SHORTEST_SIDE = 41
EPSILON = 1e-8


def _every_second(image: Tensor) -> Tensor:
    return image[cast(Any, (..., *[slice(None, None, 2)] * (image.ndim - 2)))]


def _information(sr: Tensor, hr: Tensor, weights: list[float]) -> tuple[Tensor, Tensor]:
    """Compute the information of sr and of hr about the scene at every voxel where the window fits."""
    mean_sr, mean_hr = smooth(sr, weights), smooth(hr, weights)
    var_sr = smooth(sr * sr, weights).addcmul_(mean_sr, mean_sr, value=-1).clamp_(min=0)
    var_hr = smooth(hr * hr, weights).addcmul_(mean_hr, mean_hr, value=-1).clamp_(min=0)
    covariance = smooth(sr * hr, weights).addcmul_(mean_sr, mean_hr, value=-1)
    gain = covariance / (var_hr + EPSILON)
    rest = var_sr - gain * covariance
    # As in the authors' code, no information passes if either image has no contrast or if the contrast is inverted.
    passed = (var_hr >= EPSILON) & (var_sr >= EPSILON) & (gain >= 0)
    gain = torch.where(passed, gain, 0)
    rest = torch.where(passed, rest, torch.where(var_sr >= EPSILON, var_sr, 0)).clamp_(min=EPSILON)
    var_hr = torch.where(var_hr >= EPSILON, var_hr, 0)
    of_sr = torch.log1p(gain.square_().mul_(var_hr).div_(rest.add_(NOISE_VARIANCE)))
    return of_sr, torch.log1p(var_hr.div_(NOISE_VARIANCE))


def vif(sr: Tensor, hr: Tensor, mask: Tensor | None = None, data_range: float = 1.0) -> Tensor:
    """Compute ``sum log(1 + g^2 v_h / (v_n + 2)) / sum log(1 + v_h / 2)`` over voxels and four scales.

    ``g`` and ``v_n`` are gain and residual variance of the regression of sr on hr in a Gaussian window. ``v_h`` is the
    variance of hr in the window. Intensities are multiplied by ``255 / data_range``. The windows have 17, 9, 5 and 3
    voxels and a sigma of a fifth of that. Each scale smooths with its window and keeps every second voxel. There is no
    padding: only voxels around which the window fits count. The index is not symmetric.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the middle voxels of the windows that count; default all. The windows of its
            outer voxels also use voxels outside it.
        data_range: difference between the largest and the smallest possible value; the visual noise depends on it.

    Returns:
        (B,), 1 for equal images, 0 if no information is left, above 1 for an image with more contrast. Channels count
        together.

    Raises:
        InputError: the shapes differ, a side is below 41 voxels, the mask has no voxel further than 8 voxels from the
            border, the reference is flat there, or a voxel is not finite.

    Reference:
        Sheikh, Bovik: Image information and visual quality. doi:10.1109/TIP.2005.859378
    """
    check_range(data_range)
    sr, hr = checked_pair(sr, hr)
    check_sides(sr, SHORTEST_SIDE, "VIF")
    refuse_flat(hr)
    counted(mask, hr, WINDOWS[0] // 2, f" further than {WINDOWS[0] // 2} voxels from the image's border")
    inside = counted(mask, hr)
    # An offset does not change variances, but near zero they lose fewer digits.
    offset = hr.mean()
    sr, hr = (sr - offset) * (PAPER_RANGE / data_range), (hr - offset) * (PAPER_RANGE / data_range)
    count = inside.flatten(1).sum(dim=1)
    # If the reference is flat, rounding errors of its variance remain, which are not information.
    rounding = 4 * torch.finfo(hr.dtype).eps / NOISE_VARIANCE * hr.flatten(1).square().amax(dim=1).double()
    ours, theirs = (torch.zeros(len(hr), dtype=torch.float64, device=hr.device) for _ in range(2))
    for scale, window in enumerate(WINDOWS):
        weights = gaussian_weights(window, window / 5)
        if scale:
            sr, hr = (_every_second(smooth(image, weights)) for image in (sr, hr))
            inside = _every_second(cropped(inside, window // 2))
        for total, information in zip((ours, theirs), _information(sr, hr, weights), strict=True):
            kept = torch.where(cropped(inside, window // 2), information, 0)
            total += kept.flatten(1).sum(dim=1, dtype=torch.float64)
    refuse_where(theirs <= rounding * count, "hr: image", "is flat in the mask")
    return (ours / theirs).to(hr.dtype)
