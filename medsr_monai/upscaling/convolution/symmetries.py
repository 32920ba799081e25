"""The symmetries of a grid: mirrorings, and exchanges of axes with the same scale."""

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
        mirrored: axes of the network along which the image is mirrored.
    """

    permutation: tuple[int, ...]
    mirrored: tuple[int, ...]

    def apply(self, image: Tensor) -> Tensor:
        """Transform an image (B, C, *spatial) for the network."""
        order = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return image.permute(0, 1, *(2 + axis for axis in order)).flip([2 + axis for axis in self.mirrored])

    def undo(self, result: Tensor) -> Tensor:
        """Transform the network's result back to the axes of the image."""
        result = result.flip([2 + axis for axis in self.mirrored])
        return result.permute(0, 1, *(2 + axis for axis in self.permutation))


def symmetries(scale: Sequence[int]) -> list[Symmetry]:
    """List all symmetries that keep the scale: up to 48 in 3D, 8 in 2D.

    The mirrorings without exchange of axes come first, each followed by its complement, which balances it. Then come
    the mirrorings with each exchange of axes.

    Args:
        scale: scale of the network, per axis.

    Returns:
        The symmetries; the first is the identity.
    """
    axes = range(len(scale))
    halves = [tuple(axis for axis in axes[1:] if chosen >> (axis - 1) & 1) for chosen in range(2 ** (len(scale) - 1))]
    mirrorings = [part for half in halves for part in (half, tuple(axis for axis in axes if axis not in half))]
    orders = [order for order in itertools.permutations(axes) if all(scale[order[a]] == scale[a] for a in axes)]
    return [Symmetry(order, mirrored) for order in orders for mirrored in mirrorings]
