"""Check that a device can compute, and read its free memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from medsr_monai.system.errors import InputError


def usable_device(name: str | torch.device) -> torch.device:
    """Return the named device, such as ``cuda:1``, after a test that it can compute."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails on the device "meta", which computes nothing
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InputError(f"device '{name}': not available here; use cpu or leave it out") from error
    return device


def free_bytes(device: str | torch.device = "cpu") -> int:
    """Read the free memory of a device; on the CPU, without swapping and within the container's limit."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        values = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(values["MemAvailable"].split()[0]) * 1024
    elif "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        raise InputError("memory: this system does not report how much is free; set a limit, e.g. memory_gb 4")
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free
