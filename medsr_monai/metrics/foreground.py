"""The foreground of a reference, and MONAI metrics over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.metrics.regression import RegressionMetric
from monai.utils import MetricReduction
from torch import Tensor

from medsr_monai.metrics.pairs import checked_pair, plain
from medsr_monai.system.errors import InputError


def foreground_percentile(image: Tensor, percentile: float = 99.5) -> Tensor:
    """Compute the percentile of the nonzero voxels, the intensity unit of foreground figures.

    Args:
        image: (B, C, *spatial).
        percentile: from 0 to 100.

    Returns:
        (B,), in the unit of the image.

    Raises:
        InputError: an image is zero everywhere, or its percentile is not positive.
    """
    if not 0 <= percentile <= 100:
        raise InputError(f"percentile {percentile}: must be 0 to 100")
    values = []
    for index, one in enumerate(plain(image)):
        # numpy selects voxels several times as fast as torch
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
    """Find the tissue of a reference: brighter than the threshold, dilated, without voxels that are exactly zero.

    A dilation adds the six neighbours of a voxel (four in 2D), so the object's border counts. Exact zeros come from
    defacing or from the scanner's own masking. They are no anatomy, and are removed after the dilation.

    Args:
        hr: (B, C, *spatial), divided by its 99.5th percentile (`foreground_percentile`).
        threshold: share of that intensity above which a voxel is foreground.
        dilation: number of dilations by one voxel.

    Returns:
        (B, C, *spatial) bool.

    Raises:
        InputError: the dilation is negative.
    """
    if dilation < 0:
        raise InputError(f"dilation {dilation}: must be 0 or more")
    hr = plain(hr)
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
    """A measure over the reference's foreground as a MONAI metric; engines use it through ``IgniteMetricHandler``.

    ``y_pred`` and ``y`` are batches (B, C, *spatial), or lists of (C, *spatial) that may differ in size. Every image
    counts once in the mean. For the bias of CT in HU: ``ForegroundMetric(intensity_bias, None, threshold=-500)``.

    Args:
        measure: maps sr, hr and mask to one figure per image, (B,), e.g. `psnr` or `spectrum_distance`.
        percentile: of the reference's nonzero voxels; it divides both images, so the figure does not depend on the
            pipeline's intensity unit. None leaves the images unchanged.
        threshold: see `foreground_mask`.
        dilation: see `foreground_mask`.
        reduction: MONAI's mode of reduction over images.
        settings: further arguments of the measure, e.g. ``data_range`` of the divided images.
    """

    def __init__(
        self,
        measure: Callable[..., Tensor],
        percentile: float | None = 99.5,
        threshold: float = 0.05,
        dilation: int = 2,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        **settings: Any,
    ) -> None:
        super().__init__(reduction=reduction)
        self.measure = measure
        self.percentile = percentile
        self.threshold = threshold
        self.dilation = dilation
        self.settings = settings

    def _check_shape(self, y_pred: Tensor, y: Tensor) -> None:
        """Leave the check to the measures, whose errors name the images."""

    def _compute_metric(self, y_pred: Tensor, y: Tensor) -> Tensor:
        sr, hr = checked_pair(y_pred, y)
        if self.percentile is not None:
            unit = foreground_percentile(hr, self.percentile).reshape(-1, *[1] * (hr.ndim - 1)).to(hr.dtype)
            sr, hr = sr / unit, hr / unit
        return self.measure(sr, hr, foreground_mask(hr, self.threshold, self.dilation), **self.settings)[:, None]
