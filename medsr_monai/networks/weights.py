"""Trained weights into a network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from medsr_monai.device import usable_device
from medsr_monai.errors import InputError


def load_weights(
    network: nn.Module,
    path: str | Path,
    device: str | torch.device = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> nn.Module:
    """Load a state dict, tensors only, into a network, and move it to a device.

    Args:
        network: changed in place.
        path: what ``torch.save`` made of a ``state_dict``.
        device: where to.
        memory_format: of the weights; channels last is fastest on CPUs.

    Returns:
        The network.

    Raises:
        InputError: no such file, a damaged one, one for another network, or no such device.
    """
    path, device = Path(path), usable_device(device)
    if not path.is_file():
        raise InputError(f"{path}: no such weights; train them or give another 'checkpoint'")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and PyTorch raise what they like for a damaged file
        raise InputError(f"{path}: cannot read the weights, the file is damaged or no state dict") from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{path}: these weights are for another network than 'network_def'") from error
    return network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
