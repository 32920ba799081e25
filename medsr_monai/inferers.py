"""MONAI inferers: exact tiles for convolutional generators, and the projection onto the measurement."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.errors import InputError


def consistency_regularisation(consistency: str | float | None) -> float | None:
    """What ``none``, ``exact`` or a number means to the projection.

    Returns:
        None for no projection, 0 for an exact one, or the Tikhonov damping.

    Raises:
        InputError: anything else.
    """
    if consistency is None or str(consistency).lower() == "none":
        return None
    if str(consistency).lower() == "exact":
        return 0.0
    try:
        value = math.nan if isinstance(consistency, bool) else float(consistency)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"consistency '{consistency}': must be none, exact, or a damping of 0 or more")
    return value


def cut_axis(size: int, tiles: int, halo: int) -> list[tuple[slice, slice]]:
    """Cut an axis into equal tiles with a halo.

    Args:
        size: voxels along the axis.
        tiles: number of tiles.
        halo: voxels that a tile sees beyond its own on either side, as far as there are any.

    Returns:
        For every tile what it sees and what of that is its own.
    """
    edges = [round(size * i / tiles) for i in range(tiles + 1)]
    cuts = []
    for start, stop in itertools.pairwise(edges):
        first, last = max(0, start - halo), min(size, stop + halo)
        cuts.append((slice(first, last), slice(start - first, stop - first)))
    return cuts


def plan_tiles(shape: Sequence[int], halo: int, max_voxels: int) -> list[list[tuple[slice, slice]]]:
    """Cut a volume into the tiles that compute the fewest voxels while none sees more than ``max_voxels``.

    Args:
        shape: spatial shape.
        halo: voxels of overlap on either side of a cut.
        max_voxels: largest tile, halo included.

    Returns:
        The cuts of each axis, as of :func:`cut_axis`.

    Raises:
        InputError: even the smallest tile, which is its halo, is larger.
    """

    def options(size: int) -> list[tuple[int, int, list[tuple[slice, slice]]]]:
        """The largest view, the sum of all views, and the cuts, for some numbers of tiles up to one per voxel."""
        counts = sorted({min(size, count) for count in (*range(1, 9), 12, 16, 24, 32, 48, 64, size)})
        found = []
        for cuts in (cut_axis(size, count, halo) for count in counts):
            seen = [view.stop - view.start for view, _ in cuts]
            found.append((max(seen), sum(seen), cuts))
        return found

    best = None
    for axes in itertools.product(*(options(size) for size in shape)):
        if math.prod(largest for largest, _, _ in axes) <= max_voxels:
            cost = math.prod(total for _, total, _ in axes)
            if best is None or cost < best[0]:
                best = (cost, [cuts for _, _, cuts in axes])
    if best is None:
        raise InputError(f"tiles of {max_voxels} voxels are too small for a receptive radius of {halo}; allow more")
    return best[1]


@contextmanager
def layer_progress(network: Callable[..., Tensor], runs: int, enabled: bool) -> Iterator[None]:
    """Show a bar that advances with every convolution: even a volume that is a single tile shows how far it is."""
    if not (enabled and isinstance(network, nn.Module)):
        yield
        return
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    with tqdm(total=runs * len(layers), unit="layer", desc="upscaling", leave=False) as bar:
        hooks = [layer.register_forward_hook(lambda *_: bar.update() and None) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class TiledInferer(Inferer):
    """Run a convolutional generator tile by tile with a halo as wide as its receptive field: exact, no seams.

    Args:
        max_voxels: low-resolution voxels of the largest tile, halo included: the limit of the memory used.
        progress: show a progress bar of the convolutions done.
    """

    def __init__(self, max_voxels: int = 2_500_000, progress: bool = False) -> None:
        super().__init__()
        self.max_voxels = max_voxels
        self.progress = progress

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Upscale (B, C, *spatial) to (B, C', *(scale * spatial)).

        The network states its ``receptive_radius`` and ``scale``.
        """
        shape = inputs.shape[2:]
        scale, halo = network.scale, network.receptive_radius  # type: ignore[attr-defined]
        if math.prod(shape) <= self.max_voxels:
            with layer_progress(network, 1, self.progress):
                return network(inputs, *args, **kwargs)
        tiles = list(itertools.product(*plan_tiles(shape, halo, self.max_voxels)))
        with layer_progress(network, len(tiles), self.progress):
            return self._run_tiles(inputs, tiles, network, scale, *args, **kwargs)

    def _run_tiles(
        self,
        inputs: Tensor,
        tiles: Sequence[Sequence[tuple[slice, slice]]],
        network: Callable[..., Tensor],
        scale: Sequence[int],
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        output: Tensor | None = None
        for tile in tiles:
            views, owns = [view for view, _ in tile], [own for _, own in tile]
            result = network(inputs[cast(Any, (Ellipsis, *views))], *args, **kwargs)
            if output is None:
                size = [n * factor for n, factor in zip(inputs.shape[2:], scale, strict=True)]
                output = result.new_empty((*result.shape[:2], *size))
            source = [slice(o.start * s, o.stop * s) for o, s in zip(owns, scale, strict=True)]
            target = [
                slice((v.start + o.start) * s, (v.start + o.stop) * s)
                for v, o, s in zip(views, owns, scale, strict=True)
            ]
            output[cast(Any, (Ellipsis, *target))] = result[cast(Any, (Ellipsis, *source))]
        assert output is not None
        return output


class FlipEnsembleInferer(Inferer):
    """Average the network's answers to mirrored copies of the input, each mirrored back.

    Args:
        inferer: runs the network.
        size: how many mirrorings, 1 (none) to 8 in 3D, 4 in 2D; the time grows in proportion.

    Reference:
        Timofte et al., Seven ways to improve example-based single image super resolution, doi:10.1109/CVPR.2016.206
    """

    def __init__(self, inferer: Inferer, size: int = 1) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"ensemble {size}: must be a whole number, 1 or more")
        self.inferer = inferer
        self.size = size

    @staticmethod
    def mirrorings(axes: int) -> list[list[int]]:
        """Sets of dimensions to mirror; each is followed by its complement, so that any two neighbours balance out."""
        dims = list(range(2, 2 + axes))
        halves = [[dim for dim in dims[1:] if chosen >> (dim - 3) & 1] for chosen in range(2 ** (axes - 1))]
        return [part for half in halves for part in (half, [dim for dim in dims if dim not in half])]

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Upscale (B, C, *spatial) to (B, C', *(scale * spatial))."""
        mirrorings = self.mirrorings(inputs.ndim - 2)
        if self.size > len(mirrorings):
            raise InputError(f"ensemble {self.size}: there are {len(mirrorings)} mirrorings of this image")
        total: Tensor | None = None
        for dims in mirrorings[: self.size]:
            result = self.inferer(inputs.flip(dims), network, *args, **kwargs).flip(dims)
            total = result if total is None else total.add_(result)
        assert total is not None
        return total.div_(self.size) if self.size > 1 else total


class ConsistentInferer(Inferer):
    """Upscale, then move the result the least distance to where it reproduces the measurement.

    Every channel is a volume of its own when the network takes one channel: a time series is upscaled volume by volume.

    Args:
        inferer: runs the network.
        profile: the acquisition that the input is taken to come from: ``box``, ``gaussian`` or ``kspace``.
        regularisation: None for no projection, 0 for an exact one, or a Tikhonov damping for noisy measurements; see
            :func:`consistency_regularisation`.
        progress: show a progress bar over the volumes of a series.
    """

    def __init__(
        self,
        inferer: Inferer | None = None,
        profile: str = "box",
        regularisation: float | None = 0.0,
        progress: bool = False,
    ) -> None:
        super().__init__()
        self.inferer = TiledInferer() if inferer is None else inferer
        self.profile = profile
        self.regularisation = regularisation
        self.progress = progress

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Upscale (B, C, *spatial) to (B, C, *(scale * spatial))."""
        batch, channels = inputs.shape[:2]
        inputs = torch.as_tensor(inputs)
        volumes = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        volumes = volumes.reshape(batch * channels, 1, *inputs.shape[2:])
        series = tqdm(volumes.split(1), desc="volumes", disable=not self.progress or len(volumes) == 1)
        results = torch.cat([self._upscale(volume, network, *args, **kwargs) for volume in series])
        return results.reshape(batch, channels, *results.shape[2:])

    def _upscale(self, lr: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        sr = self.inferer(lr, network, *args, **kwargs).float()
        if self.regularisation is None:
            return sr
        acquisition = SeparableAcquisition.from_profile(sr.shape[2:], lr.shape[2:], self.profile)
        return acquisition.project(sr, lr.float(), self.regularisation)
