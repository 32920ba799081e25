"""How long a piece of work takes and how much memory it needs."""

from __future__ import annotations

import ctypes
import ctypes.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

# glibc keeps freed memory, and what is taken from there again does not show as growth.
_LIBC = ctypes.util.find_library("c")
_TRIM = getattr(ctypes.CDLL(_LIBC), "malloc_trim", None) if _LIBC else None
MIB = 2**20
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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


def _resident_mib(field: str) -> float | None:
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))
    except (OSError, StopIteration):
        return None


def _restart_peak() -> bool:
    """Give freed memory back and let the kernel count the peak of resident memory anew; Linux only."""
    if _TRIM is not None:
        _TRIM(0)
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


@contextmanager
def measured_cost(device: torch.device) -> Iterator[Cost]:
    """Fill in, at the end, what the work inside took."""
    cost = Cost()
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before: float | None = torch.cuda.memory_allocated(device) / MIB
    else:
        before = _resident_mib("VmRSS") if _restart_peak() else None
    began = time.perf_counter()
    yield cost
    if on_gpu:
        torch.cuda.synchronize(device)
    cost.seconds = time.perf_counter() - began
    after = torch.cuda.max_memory_allocated(device) / MIB if on_gpu else _resident_mib("VmHWM")
    if before is not None and after is not None:
        cost.peak_mib = max(0.0, after - before)
