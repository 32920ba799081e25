"""Exact tiles for convolutional generators: each with a halo as wide as the receptive field."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from medsr_monai.errors import InputError


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
