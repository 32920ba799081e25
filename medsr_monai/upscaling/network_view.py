"""How a network sees a volume: which of the image's axes are its own, and how many voxels it makes along each."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from monai.inferers import Inferer
from torch import nn

from medsr_monai.geometry import N_AXES, Grid, network_orientation
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling.streaming import StreamingInferer

_PROBES = (4, 8, 16, 32, 64)  # voxels along each axis: some networks need more than a few, or a multiple


@dataclass(frozen=True)
class NetworkView:
    """What a network makes of three axes.

    Attributes:
        scale: whole factor along each axis of the network; 1 along the third of a 2D network, which sees slices.
        is_2d: whether it sees one slice at a time.
    """

    scale: tuple[int, ...]
    is_2d: bool = False

    def orientation(self, grid: Grid, axes: str = "image") -> np.ndarray:
        """The turn that brings a stored image to the network's axes, see :func:`network_orientation`."""
        return network_orientation(grid, self.scale[:2] if self.is_2d else self.scale, axes)


def view_of(network: nn.Module, inferer: Inferer) -> NetworkView:
    """What a network makes of three axes: by its layers, else tried on a few zeros.

    Args:
        network: any.
        inferer: that will run it; one that streams remembers what it found out.

    Raises:
        InputError: it takes or gives more than one channel, or does not make whole factors of voxels.
    """
    convolution = next((m for m in network.modules() if isinstance(m, _CONVOLUTIONS)), None)
    dims, channels = (N_AXES, 1) if convolution is None else (convolution.weight.ndim - 2, convolution.in_channels)
    name = type(network).__name__
    if dims not in (2, N_AXES):
        raise InputError(f"{name}: a network of {dims} dimensions; need 2 or 3")
    scale = None
    if channels == 1:
        with suppress(InputError):  # a layer that cannot be streamed, which is named where that matters
            scale = (inferer if isinstance(inferer, StreamingInferer) else StreamingInferer()).scale(network)
    if scale is None:
        try:
            scale = _tried(network, dims)
        except RuntimeError as error:
            if channels == 1:
                raise
            raise InputError(
                f"{name}: takes {channels} channels, and a volume has one value per voxel; need in_channels 1"
            ) from error
    return NetworkView((*scale, 1) if dims == 2 else scale, dims == 2)


def refuse_channels(network: nn.Module, made: int, expected: int = 1) -> None:
    """Refuse what is no image of one value per voxel (and its deviation).

    Raises:
        InputError: it has other channels.
    """
    if made != expected:
        raise InputError(
            f"{type(network).__name__}: gives {made} channels, and a volume has one value per voxel; need {expected}"
        )


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _tried(network: nn.Module, dims: int) -> tuple[int, ...]:
    """The scale by which it enlarges an image; its own error if it takes none of the sizes."""
    parameter = next(network.parameters(), torch.zeros(()))
    for side in _PROBES:
        image = torch.zeros((1, 1, *[side] * dims), dtype=parameter.dtype, device=parameter.device)
        try:
            made = network(image)
        except RuntimeError:
            if side == _PROBES[-1]:
                raise
            continue
        refuse_channels(network, made.shape[1])
        sizes = tuple(made.shape[2:])
        if any(n % side or n < side for n in sizes):
            raise InputError(f"{type(network).__name__}: makes {sizes} of {side} voxels an axis; need whole factors")
        return tuple(n // side for n in sizes)
    raise AssertionError("there are sizes to try")
