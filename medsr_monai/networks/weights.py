"""Load trained weights into a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from medsr_monai.system.device import usable_device
from medsr_monai.system.errors import InputError


def read_weights(path: str | Path, way_out: str = "train them, or name another file") -> dict[str, Tensor]:
    """Read a state dict that holds only tensors.

    Args:
        path: a file from ``torch.save``.
        way_out: what the user can do instead; the end of an error's line.

    Returns:
        The state dict.

    Raises:
        InputError: the file does not exist or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights; {way_out}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # for a damaged file, pickle, zip and PyTorch raise many kinds of exceptions
        raise InputError(f"{path}: cannot read the weights: damaged, or not a state dict; {way_out}") from error


def place_weights(
    network: nn.Module,
    state: Mapping[str, Tensor],
    name: str | Path,
    device: str | torch.device = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> nn.Module:
    """Put a state dict into a network, and move the network to a device; errors say the weights' name."""
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: these weights are for another network than 'network_def'") from error
    place = usable_device(device)
    if any(parameter.ndim == 4 for parameter in network.parameters()) and memory_format == torch.channels_last_3d:
        raise InputError("memory_format torch.channels_last_3d: a 2D network needs torch.channels_last")
    # torch's stubs lack the overload that takes a memory format
    return network.to(device=place, memory_format=memory_format)  # type: ignore[call-overload]


def load_weights(
    network: nn.Module,
    path: str | Path,
    device: str | torch.device = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> nn.Module:
    """Load a state dict that holds only tensors into a network, and move the network to a device.

    Args:
        network: changed in place.
        path: a state dict, saved with ``torch.save``.
        device: where the network goes.
        memory_format: of the weights; channels last is fastest on CPUs.

    Returns:
        The network.

    Raises:
        InputError: the file is missing, damaged or for another network, the device does not exist, or the memory format
            is for another number of dimensions.
    """
    return place_weights(network, read_weights(path), path, device, memory_format)


def initial_network(
    network: nn.Module,
    path: str | Path | None,
    device: str | torch.device = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> nn.Module:
    """Prepare the network that training starts with: with the weights of ``path``, or as initialised if it is None."""
    state, name = (network.state_dict(), "network_def") if path is None else (read_weights(path), path)
    return place_weights(network, state, name, device, memory_format)


def load_interpolated_weights(
    network: nn.Module,
    path: str | Path,
    perceptual_path: str | Path,
    perception: float = 0.0,
    device: str | torch.device = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> nn.Module:
    """Load a point between two sets of weights: ``(1 - perception) * fidelity + perception * perceptual``.

    Args:
        network: changed in place.
        path: the weights of the fidelity stage.
        perceptual_path: the weights after adversarial training; not read if ``perception`` is 0.
        perception: 0 (fidelity) to 1 (perceptual).
        device: see `load_weights`, also for the result and the errors.
        memory_format: see `load_weights`.

    Raises:
        InputError: ``perception`` is out of range.

    Reference:
        Wang et al., ESRGAN, section 3.4, network interpolation, doi:10.1007/978-3-030-11021-5_5
    """
    if isinstance(perception, bool) or not isinstance(perception, int | float) or not 0 <= perception <= 1:
        raise InputError(f"perception '{perception}': must be a number from 0 (fidelity) to 1 (perceptual)")
    if perception == 0:
        return load_weights(network, path, device, memory_format)
    load_weights(network, path)
    fidelity = {name: value.clone() for name, value in network.state_dict().items()}
    perceptual = load_weights(network, perceptual_path).state_dict()
    mixed = {name: torch.lerp(fidelity[name], value, perception) for name, value in perceptual.items()}
    return place_weights(network, mixed, perceptual_path, device, memory_format)
