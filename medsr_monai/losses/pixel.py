"""Losses between voxels and between edges. L1 and MSE are ``torch.nn.L1Loss`` and ``torch.nn.MSELoss``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medsr_monai.errors import InputError
from medsr_monai.losses.precision import image_pair


class CharbonnierLoss(nn.Module):
    """An L1 loss that is smooth at zero: ``mean(sqrt((sr - hr)^2 + epsilon^2))``, whose minimum is ``epsilon``.

    Args:
        epsilon: image difference in intensity units below which it acts as MSE.

    Shape:
        (B, C, *spatial), (B, C, *spatial) -> ()

    Raises:
        InputError: ``epsilon`` is not a positive number, or the shapes differ.

    Reference:
        Charbonnier et al., doi:10.1109/ICIP.1994.413553
    """

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise InputError(f"epsilon {epsilon}: must be a positive number")
        self.epsilon = epsilon

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        sr, hr = image_pair(sr, hr)
        # hypot keeps an epsilon whose square float32 cannot hold beside the difference's
        return torch.hypot(sr - hr, sr.new_tensor(self.epsilon)).mean()


class GradientLoss(nn.Module):
    """L1 between the edges: ``mean over axes of mean |d_axis sr - d_axis hr|`` with ``d`` the difference of neighbours.

    Differences are per voxel, not per millimetre. A constant offset between the images costs nothing: use it beside a
    loss between voxels.

    Shape:
        (B, C, *spatial), (B, C, *spatial) -> ()

    Raises:
        InputError: the shapes differ, or an axis has only one voxel.
    """

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        sr, hr = image_pair(sr, hr)
        error = sr - hr  # differences are linear: one difference of the error is the error of the differences
        for axis, size in enumerate(error.shape[2:]):
            if size < 2:
                raise InputError(f"gradient loss: axis {axis} has {size} voxel, need at least 2; use larger patches")
        per_axis = [error.diff(dim=axis).abs().mean() for axis in range(2, error.dim())]
        return torch.stack(per_axis).mean()
