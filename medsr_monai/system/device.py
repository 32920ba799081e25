"""The device that a user names, if this machine has it, and how much memory it has free."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from medsr_monai.system.errors import InputError


def usable_device(name: str | torch.device) -> torch.device:
    """A device that can compute here and now.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ...

    Returns:
        The device.

    Raises:
        InputError: no such device, or one that holds no numbers, such as ``meta``.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" is a device too, but computes nothing
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InputError(f"device '{name}': not available here; use cpu or leave it out") from error
    return device


def free_bytes(device: str | torch.device = "cpu") -> int:
    """Memory that a device has free now; on the CPU what the system can give without swapping, within the container.

    Raises:
        InputError: the system does not say.
    """
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
        raise InputError("memory: this system does not say how much is free; name a limit, e.g. memory_gb 4")
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free
