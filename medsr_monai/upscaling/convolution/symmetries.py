"""The symmetries of a grid: mirrorings, and exchanges of axes with the same scale."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Symmetry:
    """An exchange of axes, then a mirroring.

    Attributes:
        permutation: the network's axis for each axis of the image.
        mirrored: axes of the network along which the image is mirrored.
    """

    permutation: tuple[int, ...]
    mirrored: tuple[int, ...]


def symmetries(scale: Sequence[int]) -> list[Symmetry]:
    """List all symmetries that keep the scale: up to 48 in 3D, 8 in 2D.

    The mirrorings without exchange of axes come first, each followed by its complement, which balances it. Then come
    the mirrorings with each exchange of axes. The first symmetry is the identity.
    """
    axes = range(len(scale))
    halves = [tuple(axis for axis in axes[1:] if chosen >> (axis - 1) & 1) for chosen in range(2 ** (len(scale) - 1))]
    mirrorings = [part for half in halves for part in (half, tuple(axis for axis in axes if axis not in half))]
    orders = [order for order in itertools.permutations(axes) if all(scale[order[a]] == scale[a] for a in axes)]
    return [Symmetry(order, mirrored) for order in orders for mirrored in mirrorings]
