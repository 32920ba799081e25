"""The axes of an image that a network of given scales sees as its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medsr_monai.geometry.grid import N_AXES, Grid

AXES = ("image", "slice")
_SAME_SPACING = 1e-3


def network_orientation(grid: Grid, scale: Sequence[float], axes: str = "image") -> np.ndarray:
    """The turn, as `reorient` takes it, that brings a stored image to the axes of a network.

    A network of three equal scales sees the canonical axes (closest to RAS). Else its odd axis goes to one axis of the
    image; the other two, if their scales are equal, go to the rest in canonical order. All directions are the canonical
    ones.

    Args:
        grid: of the stored image.
        scale: factor along each axis of the network; two of a 2D network, whose odd axis is that of the slices.
        axes: ``image``: the network's axis i is the image's axis i as stored; ``slice``: the network's odd axis is the
            slice axis, see :func:`slice_axis`.

    Returns:
        A nibabel orientation array (3, 2).
    """
    turn = grid.canonical()[1]
    odd = _odd_axis(scale)
    if odd is None:
        return turn
    chosen = odd if axes == "image" else slice_axis(grid)
    rest = [axis for axis in range(N_AXES) if axis != odd]
    stored = [axis for axis in range(N_AXES) if axis != chosen]
    if len({scale[axis] for axis in rest}) == 1:
        stored.sort(key=lambda axis: turn[axis, 0])
    turned = turn.copy()
    for image_axis, network_axis in zip([chosen, *stored], [odd, *rest], strict=True):
        turned[image_axis, 0] = network_axis
    return turned


def slice_axis(grid: Grid) -> int:
    """The axis of the slices, whose pixels are square: that of one voxel, where there is one such; else the one whose
    spacing differs from the two others, which are equal; else the thickest; of equals the last."""
    single = [axis for axis, n in enumerate(grid.shape) if n == 1]
    if len(single) == 1:
        return single[0]
    spacing = np.array(grid.spacing_mm)
    alike = np.isclose(spacing[:, None], spacing, rtol=_SAME_SPACING, atol=0)
    odd = np.flatnonzero(alike.sum(axis=1) == 1)
    if len(odd) == 1:
        return int(odd[0])
    return int(np.flatnonzero(spacing >= spacing.max() * (1 - _SAME_SPACING))[-1])


def _odd_axis(scale: Sequence[float]) -> int | None:
    """The network's axis that is unlike the others; of three different scales the largest; None if all are alike."""
    if len(scale) < N_AXES:
        return N_AXES - 1
    if len(set(scale)) == 1:
        return None
    rare = [axis for axis, factor in enumerate(scale) if list(scale).count(factor) == 1]
    return rare[0] if len(rare) == 1 else int(np.argmax(scale))
