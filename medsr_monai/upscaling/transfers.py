"""Slabs between host and GPU while the GPU computes: pinned memory, and a stream of commands of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Read = Callable[[int, int], Tensor]
Place = TypeVar("Place")


def read_ahead(read: Read, extent: int, device: torch.device) -> Read:
    """Slabs on a GPU, each brought there while the one before is computed.

    Args:
        read: gives the slices [start, stop) in host memory.
        extent: slices of the whole image.
        device: the GPU.

    Returns:
        The same on the device, for slabs of one thickness that are asked for in order.
    """
    transfers = torch.cuda.Stream(device)
    waiting: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def begin(start: int, stop: int) -> None:
        with torch.cuda.stream(transfers):
            pinned = read(start, stop).contiguous().pin_memory()
            waiting[start, stop] = pinned, pinned.to(device, non_blocking=True)

    def take(start: int, stop: int) -> Tensor:
        if (start, stop) not in waiting:
            begin(start, stop)
        _, slab = waiting.pop((start, stop))
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(transfers)
        slab.record_stream(computing)
        if stop < extent:
            begin(stop, min(extent, 2 * stop - start))
        return slab

    return take


def write_behind(results: Iterator[tuple[Place, Tensor]], device: torch.device) -> Iterator[tuple[Place, Tensor]]:
    """Results in pinned host memory, each copied there while the next one is computed."""
    transfers = torch.cuda.Stream(device)
    before: tuple[Place, Tensor, torch.cuda.Event] | None = None
    for place, result in results:
        transfers.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(transfers):
            host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            host.copy_(result, non_blocking=True)
            result.record_stream(transfers)
            arrived = transfers.record_event()
        if before is not None:
            before[2].synchronize()
            yield before[:2]
        before = place, host, arrived
    if before is not None:
        before[2].synchronize()
        yield before[:2]
