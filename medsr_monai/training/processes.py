"""One training on several processes, started by ``torchrun``: who is who, and what each of them does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import ignite.distributed as idist
import torch
from monai.handlers import StatsHandler, TensorBoardHandler
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from medsr_monai.system.errors import InputError


def process_device() -> torch.device:
    """The GPU of this process, or the CPU where there is none.

    Raises:
        InputError: not started by ``torchrun``, or with more processes than GPUs.
    """
    if "LOCAL_RANK" not in os.environ:
        raise InputError(
            "multi_gpu_train.json: start it with torchrun --standalone --nproc_per_node=N -m monai.bundle run ..."
        )
    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if rank >= count:
        raise InputError(f"process {rank} of this machine has no GPU: there are {count}; lower --nproc_per_node")
    return torch.device("cuda", rank)


def join_processes(device: torch.device) -> None:
    """Meet the other processes: by nccl on GPUs, by gloo on CPUs.

    Raises:
        InputError: not started by ``torchrun``.
    """
    process_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave_processes() -> None:
    """Part from the other processes, if they were met."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def world_size() -> int:
    """Number of processes of this training; 1 when it was not started by ``torchrun``."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def distribute(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with its gradients averaged over all processes.

    Buffers stay each process's own: a discriminator sees two batches before one backward pass, and sending its buffers
    around between them would change what the first one needs.
    """
    return DistributedDataParallel(
        network, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
    )


def for_this_process(handlers: Sequence[Any]) -> list[Any]:
    """The handlers that this process attaches: only the first one prints and writes curves."""
    if idist.get_rank() == 0:
        return list(handlers)
    return [handler for handler in handlers if not isinstance(handler, (StatsHandler, TensorBoardHandler))]
