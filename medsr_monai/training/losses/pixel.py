"""Losses of voxels and of edges. L1 and MSE are ``torch.nn.L1Loss`` and ``torch.nn.MSELoss``."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses.precision import image_pair

FLAT = 1e-4  # below this gradient, an image counts as flat; in intensity units per voxel


class CharbonnierLoss(nn.Module):
    """An L1 loss that is smooth at zero: ``mean(sqrt((sr - hr)^2 + epsilon^2))``. Its minimum is ``epsilon``.

    Args:
        epsilon: in intensity units; for smaller differences, the loss acts as MSE.

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
        # hypot keeps a small epsilon whose square would be lost in float32
        return torch.hypot(sr - hr, sr.new_tensor(self.epsilon)).mean()


class GradientLoss(nn.Module):
    """L1 of edges: ``mean over axes of mean |d_axis sr - d_axis hr|``, where ``d`` is the difference of neighbours.

    With ``magnitude``, it is the L1 of the lengths of the gradients, ``mean ||d sr| - |d hr||``. Then an equally strong
    edge at the same place costs nothing in any direction. So the details of a texture may differ, but blur is punished.

    Differences are per voxel, not per millimetre. A constant offset between the images costs nothing, so use this loss
    together with a loss of voxels.

    Args:
        magnitude: compare lengths instead of components.

    Shape:
        (B, C, *spatial), (B, C, *spatial) -> ()

    Raises:
        InputError: the shapes differ, or an axis has only one voxel.
    """

    def __init__(self, magnitude: bool = False) -> None:
        super().__init__()
        self.magnitude = magnitude

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        sr, hr = image_pair(sr, hr)
        for axis, size in enumerate(hr.shape[2:]):
            if size < 2:
                raise InputError(
                    f"gradient loss: axis {axis} has {size} voxel, but needs at least 2; use larger patches"
                )
        if self.magnitude:
            return (_gradient_length(sr) - _gradient_length(hr)).abs().mean()
        error = sr - hr  # differences are linear, so the difference of the error is the error of the differences
        per_axis = [error.diff(dim=axis).abs().mean() for axis in range(2, error.dim())]
        return torch.stack(per_axis).mean()


def _gradient_length(image: Tensor) -> Tensor:
    """The length of the vector of differences to the next voxel along every axis, if all of these voxels exist."""
    inside = [slice(size - 1) for size in image.shape[2:]]
    squares = [image.diff(dim=axis)[cast(Any, (..., *inside))].square() for axis in range(2, image.dim())]
    # The gradient of the root is infinite at zero, the value of flat background, so a small constant is added.
    return (torch.stack(squares).sum(dim=0) + FLAT**2).sqrt()
