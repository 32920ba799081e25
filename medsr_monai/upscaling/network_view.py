"""How a network sees a volume: which of the image's axes are its own, and how many voxels it makes along each."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from monai.inferers import Inferer
from torch import nn

from medsr_monai.geometry import N_AXES, Grid
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling.streaming import StreamingInferer

AXES = ("image", "slice")
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

    @property
    def odd_axis(self) -> int | None:
        """The network's axis that is unlike the others: of slices, or with another scale; None if all are alike.

        Of three different scales it is the largest.
        """
        if self.is_2d:
            return N_AXES - 1
        if len(set(self.scale)) == 1:
            return None
        rare = [axis for axis, factor in enumerate(self.scale) if self.scale.count(factor) == 1]
        return rare[0] if len(rare) == 1 else int(np.argmax(self.scale))

    def orientation(self, grid: Grid, axes: str = "image") -> np.ndarray:
        """The turn, as `reorient` takes it, that brings a stored image to the network's axes.

        A network of one scale sees the canonical axes (closest to RAS). Else its odd axis goes to an axis of the
        image, and the others, where their scales are the same, to the rest in canonical order. All directions are the
        canonical ones.

        Args:
            grid: of the stored image.
            axes: ``image``: the network's axis i is the image's axis i as stored; ``slice``: its odd axis is the
                slice axis, see :func:`slice_axis`.
        """
        turn = grid.canonical()[1]
        odd = self.odd_axis
        if odd is None:
            return turn
        chosen = odd if axes == "image" else slice_axis(grid)
        rest = [axis for axis in range(N_AXES) if axis != odd]
        stored = [axis for axis in range(N_AXES) if axis != chosen]
        if len({self.scale[axis] for axis in rest}) == 1:
            stored.sort(key=lambda axis: turn[axis, 0])
        turned = turn.copy()
        for image_axis, network_axis in zip([chosen, *stored], [odd, *rest], strict=True):
            turned[image_axis, 0] = network_axis
        return turned


def slice_axis(grid: Grid) -> int:
    """The axis of the slices: that of one voxel, where there is one such; else the thickest; of equals the last."""
    single = [axis for axis, n in enumerate(grid.shape) if n == 1]
    if len(single) == 1:
        return single[0]
    spacing = np.array(grid.spacing_mm)
    return int(np.flatnonzero(spacing >= spacing.max() * (1 - 1e-3))[-1])


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
