"""Means over the processes of ``torch.distributed`` through which gradients flow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


class _Mean(torch.autograd.Function):
    """Mean over processes, forwards and backwards.

    Let ``m = 1/W sum_s x_s``, and let process r compute L_r from m. The loss on the concatenated batch is
    ``L = 1/W sum_r L_r``, and DDP makes the gradient of process s ``1/W g_s``. So that this is
    ``dL/dx_s = 1/W (1/W sum_r dL_r/dm)``, the backward pass must hand on ``g_s = 1/W sum_r dL_r/dm``: the mean again.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)  # sum and divide: gloo has no mean
        return total / distributed.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Mean.apply(gradients[0].contiguous())


def mean_over_processes(values: Tensor) -> Tensor:
    """The elementwise mean over all processes of the default group, or the values themselves where there is only one.

    Args:
        values: of one shape in all processes, all of which must call this, and go backwards through it, together.

    Returns:
        The mean, with gradients such that their average over the processes, as DDP takes it, is the gradient of one
        process that holds all the values.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return values
    return _Mean.apply(values)
