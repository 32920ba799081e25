"""Consistency of an image with its measurement: residuals of the measurement, and bias of the mean intensity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medsr_monai.metrics.pairs import checked_pair, mean_inside, plain
from medsr_monai.system.errors import InputError

Acquisition = Callable[[Tensor], Tensor]


def measurement_residual(sr: Tensor, lr: Tensor, acquisition: Acquisition) -> tuple[Tensor, Tensor]:
    """Compute the largest and the root mean square ``|A(sr) - lr|`` over all measured voxels.

    Zero means that the image explains the measurement, not that it is right: what ``A`` cannot see may be invented. If
    lr has noise, the RMS should equal its standard deviation, not zero. There is no mask, because every voxel was
    measured.

    Args:
        sr: (B, C, *spatial), the image to judge.
        lr: (B, C, *low-resolution spatial), the measurement.
        acquisition: A, which maps the grid of sr to that of lr, e.g. a ``SeparableAcquisition``.

    Returns:
        The maximum (B,) and the RMS (B,), in the unit of the image.

    Raises:
        InputError: ``A(sr)`` does not have the shape of lr, or a voxel is not finite.
    """
    with torch.no_grad():
        measured = acquisition(checked_pair(sr, sr)[0])
    if measured.shape != lr.shape:
        raise InputError(
            f"sr of shape {tuple(sr.shape)} is measured as {tuple(measured.shape)}, but lr has {tuple(lr.shape)}; "
            "give the acquisition of this pair"
        )
    measured, lr = checked_pair(measured, plain(lr).to(measured.device))
    difference = (measured - lr).abs_().flatten(1)
    return difference.amax(dim=1), difference.square().mean(dim=1).sqrt()


def intensity_bias(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the signed mean error ``mean(sr - hr)``, in the unit of the images: HU for CT in HU.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the voxels that count; default all.

    Returns:
        (B,); 0 for equal images, but also if errors cancel, so read it together with `mae`.

    Raises:
        InputError: the shapes differ, the mask is empty, or a voxel is not finite.
    """
    sr, hr = checked_pair(sr, hr)
    return mean_inside(sr - hr, mask)
