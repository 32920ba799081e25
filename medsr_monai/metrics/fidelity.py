"""Fidelity to a reference: PSNR, SSIM and mean errors, over the whole image or over its foreground.

The conventions, stated once:

- Images are (B, C, *spatial), 2D or 3D; the result is one number per image, shape (B,), without a gradient.
- ``data_range`` is the distance between the smallest and the largest possible value, 1 for a normalised image.
- A mask is (B or 1, C or 1, *spatial); only its nonzero voxels count. Without one, all voxels count.
- Foreground figures are taken on both images divided by the 99.5th percentile of the nonzero voxels of ``hr``
  (`foreground_percentile`), with ``data_range`` 1 and nothing clipped, over `foreground_mask`: brighter than 0.05,
  dilated twice, zeroed voxels left out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from monai.metrics.regression import RegressionMetric
from monai.utils import MetricReduction
from torch import Tensor

from medsr_monai.errors import InputError

SSIM_K1, SSIM_K2 = 0.01, 0.03
SSIM_WINDOW = 11
# SSIM holds about eight float maps of one slab at a time: a small slab needs little memory and stays near the cache.
SLAB_VOXELS = 2**21
SHORTEST_SLAB = 16


def _plain(image: Tensor) -> Tensor:
    """Without gradient and without MONAI's meta data, which would slow every operation down."""
    return image.detach().as_subclass(Tensor)


def _pair(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    if sr.shape != hr.shape:
        raise InputError(f"sr has shape {tuple(sr.shape)} and hr {tuple(hr.shape)}: they must be equal")
    if sr.ndim not in (4, 5) or sr.numel() == 0:
        raise InputError(f"images of shape {tuple(sr.shape)}: need (B, C) and two or three spatial axes, none empty")
    dtype = torch.promote_types(torch.promote_types(sr.dtype, hr.dtype), torch.float32)
    images = {"sr": _plain(sr).to(dtype), "hr": _plain(hr).to(dtype)}
    for name, image in images.items():
        finite = torch.isfinite(image).flatten(1).all(dim=1)
        if not finite.all():
            raise InputError(f"{name}: image {int((~finite).nonzero()[0])} of the batch has NaN or infinite voxels")
    return images["sr"], images["hr"]


def _expand(mask: Tensor, shape: torch.Size) -> Tensor:
    """The mask as booleans of the images' shape; a view where it can be one."""
    fits = mask.ndim == len(shape) and mask.shape[2:] == shape[2:]
    if not fits or any(m not in (1, n) for m, n in zip(mask.shape[:2], shape[:2], strict=True)):
        raise InputError(f"mask of shape {tuple(mask.shape)} does not fit images of shape {tuple(shape)}")
    return _plain(mask).bool().expand(shape)


def _check_count(count: Tensor, where: str = "") -> None:
    if (count == 0).any():
        raise InputError(f"mask of image {int((count == 0).nonzero()[0])} of the batch is empty{where}")


def _mean_inside(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of (B, C, *spatial) over the voxels of each image that the mask keeps, (B,)."""
    if mask is None:
        return values.flatten(1).mean(dim=1)
    mask = _expand(mask, values.shape)
    count = mask.flatten(1).sum(dim=1)
    _check_count(count)
    return torch.where(mask, values, 0).flatten(1).sum(dim=1) / count


def mse(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error. Args and errors as for `psnr`. Returns: (B,)."""
    sr, hr = _pair(sr, hr)
    return _mean_inside((sr - hr).square_(), mask)


def mae(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error. Args and errors as for `psnr`. Returns: (B,)."""
    sr, hr = _pair(sr, hr)
    return _mean_inside((sr - hr).abs_(), mask)


def _check_range(data_range: float) -> None:
    if not (data_range > 0 and math.isfinite(data_range)):
        raise InputError(f"data range {data_range}: must be positive")


def psnr(sr: Tensor, hr: Tensor, mask: Tensor | None = None, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio ``10 log10(data_range^2 / mse)`` in dB; equal images give infinity.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), which voxels count; default all.
        data_range: distance between the smallest and the largest possible value.

    Returns:
        (B,) in dB.

    Raises:
        InputError: shapes that differ, a mask without a voxel, or voxels that are not finite.
    """
    _check_range(data_range)
    return 20 * math.log10(data_range) - 10 * torch.log10(mse(sr, hr, mask))


def _window_weights(window: int, sigma: float | None) -> list[float]:
    if window < 1 or window % 2 == 0:
        raise InputError(f"SSIM window of {window} voxels: need an odd number")
    if sigma is None:
        return [1.0 / window] * window
    if not sigma > 0:
        raise InputError(f"SSIM window with sigma {sigma} voxels: must be positive, or None for equal weights")
    weights = np.exp(-0.5 * ((np.arange(window) - window // 2) / sigma) ** 2)
    return [float(w) for w in weights / weights.sum()]


def _smooth(image: Tensor, weights: list[float]) -> Tensor:
    """Correlate every spatial axis with the weights where the window fits: spatial sides shrink by window - 1."""
    # Adding shifted views is several times as fast as a one-channel convolution, and never rounds to TF32 on a GPU.
    for dim in range(2, image.ndim):
        size = image.shape[dim] - len(weights) + 1
        total = image.narrow(dim, 0, size) * weights[0]
        for offset, weight in enumerate(weights[1:], start=1):
            total.add_(image.narrow(dim, offset, size), alpha=weight)
        image = total
    return image


def _ssim_map(sr: Tensor, hr: Tensor, weights: list[float], data_range: float) -> Tensor:
    """``(2 m_s m_h + c1)(2 v_sh + c2) / ((m_s^2 + m_h^2 + c1)(v_s + v_h + c2))`` wherever the window fits."""
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    # Variances do not change with an offset; near zero they lose fewer digits (CT in HU).
    offset = hr.mean()
    sr, hr = sr - offset, hr - offset
    mean_sr, mean_hr = _smooth(sr, weights), _smooth(hr, weights)
    covariance = _smooth(sr * hr, weights) - mean_sr * mean_hr
    variances = (_smooth(sr * sr, weights) - mean_sr * mean_sr) + (_smooth(hr * hr, weights) - mean_hr * mean_hr)
    mean_sr, mean_hr = mean_sr + offset, mean_hr + offset
    luminance = (2 * mean_sr * mean_hr + c1) / (mean_sr * mean_sr + mean_hr * mean_hr + c1)
    return luminance * ((2 * covariance + c2) / (variances + c2))


def ssim(
    sr: Tensor,
    hr: Tensor,
    mask: Tensor | None = None,
    data_range: float = 1.0,
    window: int = SSIM_WINDOW,
    sigma: float | None = 1.5,
) -> Tensor:
    """Structural similarity, averaged over the voxels around which the whole window lies inside the image.

    Windows are square or cubic and statistics those of the population (not the sample), so without a mask the value is
    that of ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)``. A
    mask selects from the same voxels; windows of its outer voxels look beyond it. Channels are averaged.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), over which voxels the map is averaged; default all.
        data_range: distance between the smallest and the largest possible value; scales the constants c1 and c2.
        window: side of the window in voxels, odd.
        sigma: width of the Gaussian window in voxels; None weights all voxels of the window equally (then 7 is usual).

    Returns:
        (B,), at most 1, which equal images reach.

    Raises:
        InputError: shapes that differ, a side shorter than the window, a mask without such a voxel, voxels not finite.

    Reference:
        Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural similarity.
        doi:10.1109/TIP.2003.819861
    """
    _check_range(data_range)
    weights = _window_weights(window, sigma)
    sr, hr = _pair(sr, hr)
    for axis, size in enumerate(sr.shape[2:]):
        if size < window:
            raise InputError(f"axis {axis}: {size} voxels, but the SSIM window needs at least {window}")
    inside = torch.ones((1,) * sr.ndim, dtype=torch.bool, device=sr.device).expand(sr.shape)
    inside = inside if mask is None else _expand(mask, sr.shape)
    for dim in range(2, sr.ndim):
        inside = inside.narrow(dim, window // 2, sr.shape[dim] - window + 1)
    count = inside.flatten(1).sum(dim=1)
    _check_count(count, f" further than {window // 2} voxels from the image's border")
    total = torch.zeros_like(count, dtype=sr.dtype)
    rows = inside.shape[2]
    step = max(SHORTEST_SLAB, SLAB_VOXELS // max(1, sr[:, :, 0].numel()))
    for start in range(0, rows, step):
        size = min(step, rows - start)
        sr_slab, hr_slab = (image.narrow(2, start, size + window - 1) for image in (sr, hr))
        values = _ssim_map(sr_slab, hr_slab, weights, data_range)
        total += torch.where(inside.narrow(2, start, size), values, 0).flatten(1).sum(dim=1)
    return total / count


def foreground_percentile(image: Tensor, percentile: float = 99.5) -> Tensor:
    """The intensity that foreground figures are relative to: a percentile of the voxels that are not exactly zero.

    Args:
        image: (B, C, *spatial).
        percentile: from 0 to 100.

    Returns:
        (B,), in the unit of the image.

    Raises:
        InputError: an image that is zero everywhere, or whose percentile is not positive.
    """
    if not 0 <= percentile <= 100:
        raise InputError(f"percentile {percentile}: must be between 0 and 100")
    values = []
    for index, one in enumerate(_plain(image)):
        # numpy selects voxels several times as fast as torch does
        voxels = one.float().cpu().numpy()
        voxels = voxels[voxels != 0]
        value = float(np.percentile(voxels, percentile)) if voxels.size else 0.0
        if not value > 0:
            raise InputError(
                f"image {index} of the batch: percentile {percentile:g} of its nonzero voxels is not positive"
            )
        values.append(value)
    return torch.tensor(values, device=image.device)


def foreground_mask(hr: Tensor, threshold: float = 0.05, dilation: int = 2) -> Tensor:
    """Where a reference shows tissue: brighter than the threshold, dilated, without voxels that are exactly zero.

    A dilation adds the six neighbours of a voxel (four in 2D), so that the object's border counts. Exact zeros are what
    defacing or the scanner's own masking left; they are removed after the dilation and are no anatomy to reproduce.

    Args:
        hr: (B, C, *spatial), divided by its 99.5th percentile (`foreground_percentile`).
        threshold: share of that intensity above which a voxel is foreground.
        dilation: how many times the foreground grows by a voxel.

    Returns:
        (B, C, *spatial) bool.
    """
    if dilation < 0:
        raise InputError(f"dilation {dilation}: must not be negative")
    hr = _plain(hr)
    mask = hr > threshold
    for _ in range(dilation):
        grown = mask.clone()
        for dim in range(2, hr.ndim):
            size = hr.shape[dim] - 1
            grown.narrow(dim, 1, size).logical_or_(mask.narrow(dim, 0, size))
            grown.narrow(dim, 0, size).logical_or_(mask.narrow(dim, 1, size))
        mask = grown
    return mask.logical_and_(hr != 0)


class ForegroundMetric(RegressionMetric):
    """A MONAI metric over the reference's foreground; engines take it in a ``monai.handlers.IgniteMetricHandler``.

    ``y_pred`` and ``y`` are batches (B, C, *spatial) or lists of (C, *spatial), which may differ in size. Every image
    counts once in the mean.

    Args:
        percentile: both images are divided by this percentile of the reference's nonzero voxels, so that the figure
            does not depend on the pipeline's scale; None takes them as they are.
        threshold: see `foreground_mask`.
        dilation: see `foreground_mask`.
        data_range: after that division.
        reduction: MONAI's mode of reduction over images.
    """

    def __init__(
        self,
        percentile: float | None = 99.5,
        threshold: float = 0.05,
        dilation: int = 2,
        data_range: float = 1.0,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        super().__init__(reduction=reduction)
        self.percentile = percentile
        self.threshold = threshold
        self.dilation = dilation
        self.data_range = data_range

    def _check_shape(self, y_pred: Tensor, y: Tensor) -> None:
        """Left to the functions of this file, whose errors name the images."""

    def _compute_metric(self, y_pred: Tensor, y: Tensor) -> Tensor:
        sr, hr = _pair(y_pred, y)
        if self.percentile is not None:
            scale = foreground_percentile(hr, self.percentile).reshape(-1, *[1] * (hr.ndim - 1)).to(hr.dtype)
            sr, hr = sr / scale, hr / scale
        mask = foreground_mask(hr, self.threshold, self.dilation)
        return self._measure(sr, hr, mask)[:, None]

    def _measure(self, sr: Tensor, hr: Tensor, mask: Tensor) -> Tensor:
        raise NotImplementedError


class ForegroundPSNR(ForegroundMetric):
    """`psnr` over the foreground, mean over images, in dB. Args as for `ForegroundMetric`."""

    def _measure(self, sr: Tensor, hr: Tensor, mask: Tensor) -> Tensor:
        return psnr(sr, hr, mask, self.data_range)


class ForegroundSSIM(ForegroundMetric):
    """`ssim` (Gaussian window of 11 voxels) over the foreground, mean over images. Args as for `ForegroundMetric`."""

    def _measure(self, sr: Tensor, hr: Tensor, mask: Tensor) -> Tensor:
        return ssim(sr, hr, mask, self.data_range)
