"""Differentiable means over the processes of ``torch.distributed``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


class _Mean(torch.autograd.Function):
    """The mean over processes, in the forward and in the backward pass.

    Let ``m = 1/W sum_s x_s``, and let process r compute L_r from m. The loss on the concatenated batch is
    ``L = 1/W sum_r L_r``, and DDP makes the gradient of process s ``1/W g_s``. It must equal
    ``dL/dx_s = 1/W (1/W sum_r dL_r/dm)``, so the backward pass returns ``g_s = 1/W sum_r dL_r/dm``: the mean again.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)  # sum and divide, because gloo has no mean
        return total / distributed.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Mean.apply(gradients[0].contiguous())


def mean_over_processes(values: Tensor) -> Tensor:
    """Average elementwise over all processes of the default group; with one process, return the values.

    Args:
        values: the same shape in all processes. All processes must call this function and its backward pass together.

    Returns:
        The mean. If DDP averages the gradients over the processes, they equal those of one process with all values.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return values
    return _Mean.apply(values)
