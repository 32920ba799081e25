"""How long a piece of work takes and how much memory it needs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from medsr_monai.system.allocation import return_freed_memory

MIB = 2**20


@dataclass
class Cost:
    """What a piece of work took.

    Attributes:
        seconds: wall clock.
        peak_mib: memory in MiB at its peak above what was in use before: resident memory of the process, on a GPU what
            PyTorch allocated. None where the system does not say.
    """

    seconds: float = 0.0
    peak_mib: float | None = None


def _resident_mib(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def measured_cost(device: torch.device) -> Iterator[Cost]:
    """Fill in, at the end, what the work inside took."""
    cost, before = Cost(), None
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / MIB
    else:
        return_freed_memory()  # what is taken from there again does not show as growth
        with suppress(OSError):  # Linux only
            Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak anew
            before = _resident_mib("VmRSS")
    began = time.perf_counter()
    yield cost
    if on_gpu:
        torch.cuda.synchronize(device)
    cost.seconds = time.perf_counter() - began
    if before is not None:
        after = torch.cuda.max_memory_allocated(device) / MIB if on_gpu else _resident_mib("VmHWM")
        cost.peak_mib = max(0.0, after - before)
