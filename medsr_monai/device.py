"""The device that a user names, if this machine has it."""

from __future__ import annotations

import torch

from medsr_monai.errors import InputError


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
