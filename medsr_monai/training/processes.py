"""Training on several processes, started by ``torchrun``."""

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
    """The GPU of this process that ``torchrun`` started, or the CPU if there is no GPU."""
    if "LOCAL_RANK" not in os.environ:
        raise InputError(
            "multi_gpu_train.json: start it with torchrun --standalone --nproc_per_node=N -m monai.bundle run ..."
        )
    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if rank >= count:
        raise InputError(f"process {rank}: no GPU left, this machine has {count}; lower --nproc_per_node")
    return torch.device("cuda", rank)


def join_processes(device: torch.device) -> None:
    """Join the process group: with nccl on GPUs, with gloo on CPUs."""
    process_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave_processes() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def world_size() -> int:
    """Number of processes of this training; 1 without ``torchrun``."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def distribute(network: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a network so that its gradients are averaged over all processes.

    Each process keeps its own buffers. A discriminator sees two batches before one backward pass, and a broadcast of
    its buffers between them would change values that the first batch needs.
    """
    return DistributedDataParallel(
        network, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
    )


def for_this_process(handlers: Sequence[Any]) -> list[Any]:
    """The handlers that this process attaches; only the first process prints and writes curves."""
    if idist.get_rank() == 0:
        return list(handlers)
    return [handler for handler in handlers if not isinstance(handler, (StatsHandler, TensorBoardHandler))]
