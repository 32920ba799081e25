"""VIF: how much of the reference's information is left, by a model of natural scenes, in the pixel domain.

The authors' code for the pixel domain (VIFp) is for 2D images; in 3D the same Gaussian windows have a third axis: that
extension is ours, and its figures do not compare with those of slices.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from medsr_monai.metrics.foreground import ForegroundMetric
from medsr_monai.metrics.pairs import check_count, check_range, checked_pair, expanded_mask, refuse_flat
from medsr_monai.metrics.windows import check_sides, gaussian_weights, smooth
from medsr_monai.system.errors import InputError

# The authors' choice for intensities from 0 to 255: a window for each of four scales, and the visual noise's variance.
PAPER_RANGE, NOISE_VARIANCE = 255.0, 2.0
WINDOWS = (17, 9, 5, 3)
SHORTEST_SIDE = 41
EPSILON = 1e-8


def _cropped(mask: Tensor, window: int) -> Tensor:
    """The voxels around which a window fits."""
    for dim in range(2, mask.ndim):
        mask = mask.narrow(dim, window // 2, mask.shape[dim] - window + 1)
    return mask


def _every_second(image: Tensor) -> Tensor:
    return image[cast(Any, (..., *[slice(None, None, 2)] * (image.ndim - 2)))]


def _information(sr: Tensor, hr: Tensor, weights: list[float]) -> tuple[Tensor, Tensor]:
    """Information of the image about the scene, and of the reference, at every voxel where the window fits."""
    mean_sr, mean_hr = smooth(sr, weights), smooth(hr, weights)
    var_sr = smooth(sr * sr, weights).addcmul_(mean_sr, mean_sr, value=-1).clamp_(min=0)
    var_hr = smooth(hr * hr, weights).addcmul_(mean_hr, mean_hr, value=-1).clamp_(min=0)
    covariance = smooth(sr * hr, weights).addcmul_(mean_sr, mean_hr, value=-1)
    gain = covariance / (var_hr + EPSILON)
    rest = var_sr - gain * covariance
    # As in the authors' code: without contrast in either image, or with it inverted, nothing is passed on.
    passed = (var_hr >= EPSILON) & (var_sr >= EPSILON) & (gain >= 0)
    gain = torch.where(passed, gain, 0)
    rest = torch.where(passed, rest, torch.where(var_sr >= EPSILON, var_sr, 0)).clamp_(min=EPSILON)
    var_hr = torch.where(var_hr >= EPSILON, var_hr, 0)
    of_sr = torch.log1p(gain.square_().mul_(var_hr).div_(rest.add_(NOISE_VARIANCE)))
    return of_sr, torch.log1p(var_hr.div_(NOISE_VARIANCE))


def vif(sr: Tensor, hr: Tensor, mask: Tensor | None = None, data_range: float = 1.0) -> Tensor:
    """``sum log(1 + g^2 v_h / (v_n + 2)) / sum log(1 + v_h / 2)`` over voxels and four scales.

    ``g`` and ``v_n`` are gain and residual variance of the regression of sr on hr in a Gaussian window, ``v_h`` the
    variance of hr in it, for intensities times ``255 / data_range``. Windows have 17, 9, 5 and 3 voxels, sigma a fifth
    of that; each scale smooths with its window and keeps every second voxel. Only voxels around which the window fits
    count: there is no padding. It is not symmetric: the reference is the second image.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), around which voxels the windows count; default all. Windows of its outer
            voxels look beyond it.
        data_range: distance between the smallest and the largest possible value; the visual noise depends on it.

    Returns:
        (B,), 1 for equal images, 0 if nothing is left, above 1 for an image with more contrast; channels count
        together.

    Raises:
        InputError: shapes that differ, a side below 41 voxels, a mask without a voxel further than 8 voxels from the
            border, a reference that is flat there, voxels that are not finite.

    Reference:
        Sheikh, Bovik: Image information and visual quality. doi:10.1109/TIP.2005.859378
    """
    check_range(data_range)
    sr, hr = checked_pair(sr, hr)
    check_sides(sr, SHORTEST_SIDE, "VIF")
    refuse_flat(hr)
    if mask is not None:
        mask = expanded_mask(mask, hr.shape)
        check_count(_cropped(mask, WINDOWS[0]).flatten(1).sum(dim=1), " further than 8 voxels from the image's border")
    # Variances do not change with an offset, and lose fewer digits near zero.
    offset = hr.mean()
    sr, hr = (sr - offset) * (PAPER_RANGE / data_range), (hr - offset) * (PAPER_RANGE / data_range)
    count = hr[0].numel() if mask is None else mask.flatten(1).sum(dim=1)
    # What rounding leaves of the variance of a flat reference is no information.
    rounding = 4 * torch.finfo(hr.dtype).eps / NOISE_VARIANCE * hr.flatten(1).square().amax(dim=1).double()
    ours, theirs = (torch.zeros(len(hr), dtype=torch.float64, device=hr.device) for _ in range(2))
    for scale, window in enumerate(WINDOWS):
        weights = gaussian_weights(window, window / 5)
        if scale:
            sr, hr = (_every_second(smooth(image, weights)) for image in (sr, hr))
            mask = None if mask is None else _every_second(_cropped(mask, window))
        of_sr, of_hr = _information(sr, hr, weights)
        if mask is not None:
            inside = _cropped(mask, window)
            of_sr, of_hr = torch.where(inside, of_sr, 0), torch.where(inside, of_hr, 0)
        ours += of_sr.flatten(1).sum(dim=1, dtype=torch.float64)
        theirs += of_hr.flatten(1).sum(dim=1, dtype=torch.float64)
    flat = theirs <= rounding * count
    if flat.any():
        raise InputError(f"hr: image {int(flat.nonzero()[0])} of the batch is flat where the mask is")
    return (ours / theirs).to(hr.dtype)


class VIF(ForegroundMetric):
    """`vif` over the foreground, mean over images. Args as for `ForegroundMetric`."""

    def _measure(self, sr: Tensor, hr: Tensor, mask: Tensor) -> Tensor:
        return vif(sr, hr, mask, self.data_range)
