"""The symmetries of a grid: mirrorings, and exchanges of axes of one scale."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Symmetry:
    """An exchange of axes, then a mirroring.

    Attributes:
        permutation: the network's axis for each axis of the image.
        mirrored: axes of the network along which it sees the image backwards.
    """

    permutation: tuple[int, ...]
    mirrored: tuple[int, ...]

    def apply(self, image: Tensor) -> Tensor:
        """The image as the network sees it: (B, C, *spatial)."""
        order = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return image.permute(0, 1, *(2 + axis for axis in order)).flip([2 + axis for axis in self.mirrored])

    def undo(self, result: Tensor) -> Tensor:
        """What the network makes of it, as the image lies."""
        result = result.flip([2 + axis for axis in self.mirrored])
        return result.permute(0, 1, *(2 + axis for axis in self.permutation))


def symmetries(scale: Sequence[int]) -> list[Symmetry]:
    """All symmetries that keep the scale: up to 48 in 3D, 8 in 2D.

    The mirrorings come first, each followed by its complement, so that any two neighbours balance out; then those of
    every exchange of axes.

    Args:
        scale: of the network, per axis.
    """
    axes = range(len(scale))
    halves = [tuple(axis for axis in axes[1:] if chosen >> (axis - 1) & 1) for chosen in range(2 ** (len(scale) - 1))]
    mirrorings = [part for half in halves for part in (half, tuple(axis for axis in axes if axis not in half))]
    orders = [order for order in itertools.permutations(axes) if all(scale[order[a]] == scale[a] for a in axes)]
    return [Symmetry(order, mirrored) for order in orders for mirrored in mirrorings]
