"""The robust intensity range of an image that comes in slabs; an image in memory is one slab.

Order statistics are found by counting: float32 numbers, read as integers, sort like the numbers themselves, so that
histograms of their upper and then their lower 16 bits find any rank exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

_HALF_BITS = 16
_BINS = 1 << _HALF_BITS

Slabs = Callable[[], Iterable[np.ndarray]]
"""A new pass over the image: arrays of any shape, in any order, that hold every voxel once."""


def _as_range(low: float, high: float, ends: tuple[float, float]) -> tuple[float, float]:
    if high <= low:
        low, high = ends
    return low, high if high > low else low + 1.0


def _keys(values: np.ndarray) -> np.ndarray:
    """uint32 numbers that sort as the float32 numbers do: of negative ones all bits turn, of others the sign."""
    bits = np.ascontiguousarray(values, dtype=np.float32).ravel().view(np.uint32)
    return bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))


def _value(key: int) -> float:
    bits = key ^ (0x80000000 if key >> 31 else 0xFFFFFFFF)
    return float(np.uint32(bits).view(np.float32))


@dataclass
class _Counts:
    """How many voxels have each upper half of a key, and of some upper halves, each lower half."""

    slabs: Slabs
    upper: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, dtype=np.int64))
    lower: dict[int, np.ndarray] = field(default_factory=dict)

    def refine(self, wanted: Iterable[int]) -> None:
        """Count the lower halves below some upper halves: one pass, none where they are known."""
        missing = sorted(set(wanted) - self.lower.keys())
        self.lower |= {upper: np.zeros(_BINS, dtype=np.int64) for upper in missing}
        for slab in self.slabs() if missing else ():
            keys = _keys(slab)
            halves = keys >> _HALF_BITS
            for upper in missing:
                chosen = keys[halves == upper] & np.uint32(_BINS - 1)
                self.lower[upper] += np.bincount(chosen, minlength=_BINS)

    def bin_of(self, rank: int) -> int:
        """The upper half of the key of that rank, from 0."""
        return int(np.searchsorted(np.cumsum(self.upper), rank, side="right"))

    def value(self, rank: int) -> float:
        """The order statistic, once its bin is refined."""
        upper = self.bin_of(rank)
        within = rank - int(self.upper[:upper].sum())
        lower = int(np.searchsorted(np.cumsum(self.lower[upper]), within, side="right"))
        return _value((upper << _HALF_BITS) | lower)

    def percentile(self, first: int, percent: float, more: Iterable[int] = ()) -> float:
        """Interpolate between the two order statistics around a percentile of the ranks from `first` to the end.

        The pass that this takes also refines the bins ``more``.
        """
        last = int(self.upper.sum()) - 1
        position = percent / 100 * (last - first)
        below = math.floor(position)
        ranks = first + below, min(first + below + 1, last)
        self.refine([*more, *(self.bin_of(rank) for rank in ranks)])
        low, high = map(self.value, ranks)
        return low + (high - low) * (position - below)


@dataclass(frozen=True)
class IntensityScan:
    """What a first pass over an image finds.

    Args:
        n_nan: voxels that are not a number.
        n_inf: voxels that are infinite.
        low: least finite value.
        high: largest finite value.
        window: (low, high) of the rule that was followed, high > low; None where voxels are not finite.
    """

    n_nan: int
    n_inf: int
    low: float
    high: float
    window: tuple[float, float] | None


def scan_slabs(slabs: Slabs, percents: tuple[float, float] | None = None) -> IntensityScan:
    """Look through an image that is never held whole: for numbers that are not finite, its ends, and a robust range.

    Foreground is what is brighter than the mean; its upper percentile is not moved by the size of the background. The
    lower end is a percentile of the whole image, so that the background lands at zero.

    Args:
        slabs: gives a new pass over the image; float32.
        percents: the percentile of the whole image and that of the foreground, which takes two passes more; None for
            no robust range.

    Returns:
        What the passes found.

    Raises:
        ValueError: the slabs hold no voxels.
    """
    counts = _Counts(slabs)
    n, total, n_nan, n_inf, low, high = 0, 0.0, 0, 0, math.inf, -math.inf
    for slab in slabs():
        values = np.asarray(slab, dtype=np.float32)
        n += values.size
        with np.errstate(over="ignore", invalid="ignore"):
            part = float(values.sum(dtype=np.float64))
        if not math.isfinite(part):
            n_nan, n_inf = n_nan + int(np.isnan(values).sum()), n_inf + int(np.isinf(values).sum())
            values = values[np.isfinite(values)]
            part = 0.0
        if values.size:
            total, low, high = total + part, min(low, float(values.min())), max(high, float(values.max()))
            if percents is not None:
                counts.upper += np.bincount(_keys(values) >> _HALF_BITS, minlength=_BINS)
    if not n:
        raise ValueError("no slab, no voxels: an image has at least one")
    if n_nan or n_inf or percents is None:
        return IntensityScan(n_nan, n_inf, low, high, None)
    # In float32, the mean is the same for any order of summing.
    return IntensityScan(0, 0, low, high, _window(counts, np.float32(total / n), percents, (low, high)))


def _window(
    counts: _Counts, mean: np.float32, percents: tuple[float, float], ends: tuple[float, float]
) -> tuple[float, float]:
    # Zero has two signs, and only the positive one is the largest key that is not above zero.
    key = int(_keys(np.array([mean + np.float32(0.0)]))[0])
    upper, lower = key >> _HALF_BITS, key & (_BINS - 1)
    low = high = counts.percentile(0, percents[0], [upper])
    background = int(counts.upper[:upper].sum() + counts.lower[upper][: lower + 1].sum())
    if background < counts.upper.sum():
        high = counts.percentile(background, percents[1])
    return _as_range(low, high, ends)
