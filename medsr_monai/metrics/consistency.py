"""Whether an image says what was measured: residuals of the measurement, and bias of the mean intensity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from monai.metrics.regression import RegressionMetric
from monai.utils import MetricReduction
from torch import Tensor

from medsr_monai.metrics.foreground import ForegroundMetric
from medsr_monai.metrics.pairs import checked_pair, mean_inside, plain
from medsr_monai.system.errors import InputError

Acquisition = Callable[[Tensor], Tensor]


def measurement_residual(sr: Tensor, lr: Tensor, acquisition: Acquisition) -> tuple[Tensor, Tensor]:
    """Largest and root mean square ``|A(sr) - lr|`` over all measured voxels, in the unit of the image.

    Zero says that the image explains the measurement, not that it is right: what ``A`` cannot see may be invented. With
    noise in lr a residual of its standard deviation is right, and zero is not. No mask: every voxel was measured.

    Args:
        sr: (B, C, *spatial), the image to judge.
        lr: (B, C, *low-resolution spatial), what was measured.
        acquisition: A, from the grid of sr to that of lr; as a ``SeparableAcquisition``.

    Returns:
        The maximum (B,) and the RMS (B,).

    Raises:
        InputError: a measured image of another shape than lr, or voxels that are not finite.
    """
    with torch.no_grad():
        measured = acquisition(checked_pair(sr, sr)[0])
    if measured.shape != lr.shape:
        raise InputError(
            f"sr of shape {tuple(sr.shape)} is measured as {tuple(measured.shape)}, but lr has {tuple(lr.shape)}: "
            "the acquisition is not that of this pair"
        )
    measured, lr = checked_pair(measured, plain(lr).to(measured.device))
    difference = (measured - lr).abs_().flatten(1)
    return difference.amax(dim=1), difference.square().mean(dim=1).sqrt()


def intensity_bias(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """``mean(sr - hr)``, signed, in the unit of the images: HU for CT in HU.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), which voxels count; default all.

    Returns:
        (B,); 0 for equal images, and also where errors cancel: read it beside `mae`.

    Raises:
        InputError: shapes that differ, a mask without a voxel, voxels that are not finite.
    """
    sr, hr = checked_pair(sr, hr)
    return mean_inside(sr - hr, mask)


class MeasurementResidual(RegressionMetric):
    """`measurement_residual` as a MONAI metric: ``y_pred`` is sr and ``y`` is lr, the measurement; mean over images.

    Args:
        acquisition: see `measurement_residual`; one for all images, which share their shape.
        statistic: ``max`` or ``rms``.
        reduction: MONAI's mode of reduction over images.
    """

    def __init__(
        self,
        acquisition: Acquisition,
        statistic: Literal["max", "rms"] = "max",
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        if statistic not in ("max", "rms"):
            raise InputError(f"statistic {statistic!r}: must be 'max' or 'rms'")
        super().__init__(reduction=reduction)
        self.acquisition = acquisition
        self.statistic = statistic

    def _check_shape(self, y_pred: Tensor, y: Tensor) -> None:
        """They differ: the second is on the grid of the measurement."""

    def _compute_metric(self, y_pred: Tensor, y: Tensor) -> Tensor:
        largest, rms = measurement_residual(y_pred, y, self.acquisition)
        return (largest if self.statistic == "max" else rms)[:, None]


class IntensityBias(ForegroundMetric):
    """`intensity_bias` over the foreground, mean over images, as a share of the robust maximum of the reference.

    For CT in HU use ``IntensityBias(percentile=None, threshold=-500)``: the figure is then in HU, over what is denser
    than half water, half air. Args as for `ForegroundMetric`.
    """

    def _measure(self, sr: Tensor, hr: Tensor, mask: Tensor) -> Tensor:
        return intensity_bias(sr, hr, mask)
