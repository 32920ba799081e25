"""Differentiable means over the processes of ``torch.distributed``."""

from __future__ import annotations

from torch import Tensor, distributed


def mean_over_processes(values: Tensor) -> Tensor:
    """Average elementwise over all processes of the default group; with one process, return the values.

    Let ``m = 1/W sum_s x_s``, and let process r compute L_r from m. The loss on the concatenated batch is
    ``L = 1/W sum_r L_r``, and DDP makes the gradient of process s ``1/W g_s``. It must equal
    ``dL/dx_s = 1/W (1/W sum_r dL_r/dm)``, so the backward pass gives ``g_s = 1/W sum_r dL_r/dm``: the mean again.

    Args:
        values: the same shape in all processes. All processes must call this function and its backward pass together.

    Returns:
        The mean. If DDP averages the gradients over the processes, they equal those of one process with all values.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return values
    from torch.distributed.nn.functional import all_reduce  # fails to import where there are no processes

    return all_reduce(values) / distributed.get_world_size()  # sum and divide, because gloo has no mean
