"""An axis cut into parts with a halo."""

from __future__ import annotations

import itertools


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
