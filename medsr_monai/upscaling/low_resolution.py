"""What a network is shown of a volume, and what it makes of it, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from medsr_monai.system.scratch import cut
from medsr_monai.upscaling.network_view import NetworkView
from medsr_monai.upscaling.streaming import Image, Place, StreamingInferer
from medsr_monai.volumes import LazyVolume

_BLOCK_VOXELS = 1 << 22


class LowResolutionImage:
    """One volume of a source, turned and normalised: (1, 1, *spatial), float32; it is read where it is indexed.

    Args:
        volume: turned to the network's axes.
        time: which volume of a series.
        window: the intensities that become 0 and 1.
    """

    dtype = torch.float32

    def __init__(self, volume: LazyVolume, time: int, window: tuple[float, float]) -> None:
        self.volume, self.time, self.window = volume, time, window
        self.shape = (1, 1, *volume.grid.shape)

    def __getitem__(self, index: tuple[Any, ...], /) -> Tensor:
        """Slices of the three spatial axes, behind two others; only one axis is read in part, best the slow one."""
        wanted = [part.indices(n)[:2] for part, n in zip(index[2:], self.volume.grid.shape, strict=True)]
        partial = [a for a, (ends, n) in enumerate(zip(wanted, self.volume.grid.shape, strict=True)) if ends != (0, n)]
        slow = self.volume.slow_axis
        axis = partial[0] if partial and slow not in partial else slow
        start, stop = wanted[axis]
        read = self.volume.read(start, stop, axis, self.time)
        others = tuple(slice(None) if a == axis else slice(*ends) for a, ends in enumerate(wanted))
        # A copy: torch refuses the negative strides of flipped axes, which numpy may leave on an axis of one voxel.
        image = torch.from_numpy(np.array(read[others], order="C"))
        low, high = torch.tensor(self.window)
        return image.sub_(low).div_(high - low)[None, None]


def slab_of(image: Image, axis: int, start: int, stop: int) -> Tensor:
    """Some slices of an image along a spatial axis."""
    return image[tuple(slice(start, stop) if dim == axis + 2 else slice(None) for dim in range(len(image.shape)))]


def upscaled_parts(
    image: Image, network: nn.Module, inferer: Inferer, view: NetworkView, progress: bool = False
) -> Iterator[tuple[Place, Tensor]]:
    """What a network makes of an image: parts with their places, in any order, that hold every voxel once.

    Args:
        image: (1, 1, *spatial), with three spatial axes; only an inferer that streams reads it in parts.
        network: of two dimensions or three.
        inferer: runs it.
        view: how it sees the image.
        progress: show a progress bar over the slices of a 2D network.
    """
    if not view.is_2d:
        yield from _parts(image, network, inferer)
        return
    n = image.shape[-1]
    with tqdm(total=n, unit="slice", desc="upscaling", leave=False, disable=not progress) as bar:
        for start, stop in cut(tuple(image.shape[2:]), 2, _BLOCK_VOXELS):
            block = slab_of(image, 2, start, stop)
            for k in range(start, stop):
                for place, part in _parts(block[..., k - start].contiguous(), network, inferer):
                    yield (*place, slice(k, k + 1)), part[..., None]
                bar.update()


def _parts(image: Image, network: nn.Module, inferer: Inferer) -> Iterator[tuple[Place, Tensor]]:
    if isinstance(inferer, StreamingInferer):
        yield from inferer.stream(image, network)
        return
    whole = image[tuple(slice(None) for _ in image.shape)]
    result = inferer(whole, network)
    yield tuple(slice(0, n) for n in result.shape[2:]), result
