"""Which intensities of an image become 0 and 1: the rule that a bundle declares, and that everything in it follows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from medsr_monai.acquisition.intensity_range import IntensityScan, Slabs, scan_slabs
from medsr_monai.system.errors import InputError


class IntensityRule(Protocol):
    """Finds the window (low, high) of an image: what becomes 0, and what becomes 1. Nothing is clipped to it."""

    def scan(self, slabs: Slabs) -> IntensityScan:
        """The window of an image that comes in slabs, and what else the passes over it found."""

    def window(self, image: np.ndarray) -> tuple[float, float]:
        """The window of an image in memory, high > low."""


@dataclass(frozen=True)
class RobustRange:
    """Percentiles of each image: for modalities without a scale of their own, such as MRI.

    Args:
        lower: percentile of the whole image that becomes 0.
        upper: percentile of the foreground, which is what is brighter than the mean, that becomes 1.

    Raises:
        InputError: no percentiles.

    Example:
        >>> low, high = RobustRange(0, 100).window(np.array([0.0, 0.0, 4.0, 8.0]))
        >>> print(low, high)
        0.0 8.0
    """

    lower: float = 0.5
    upper: float = 99.5

    def __post_init__(self) -> None:
        for name, value in (("lower", self.lower), ("upper", self.upper)):
            if not _is_number(value) or not 0 <= value <= 100:
                raise InputError(f"intensity: {name} '{value}' must be a percentile, 0 to 100")

    def scan(self, slabs: Slabs) -> IntensityScan:
        return scan_slabs(slabs, (self.lower, self.upper))

    def window(self, image: np.ndarray) -> tuple[float, float]:
        window = self.scan(lambda: [image]).window
        if window is None:
            raise InputError("intensity: the image has voxels that are NaN or infinite; they have no range")
        return window


@dataclass(frozen=True)
class FixedWindow:
    """The same two intensities for every image: for scales with a meaning, such as Hounsfield units.

    By default 0 and 1: the image is taken as it is.

    Args:
        low: becomes 0.
        high: becomes 1.

    Raises:
        InputError: no two finite numbers in this order.

    Example:
        >>> FixedWindow(-1024, 2000).window(np.zeros((4, 4, 4)))
        (-1024.0, 2000.0)
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (_is_number(self.low) and _is_number(self.high) and self.low < self.high):
            raise InputError(f"intensity: low '{self.low}' and high '{self.high}' must be numbers, low below high")

    def scan(self, slabs: Slabs) -> IntensityScan:
        found = scan_slabs(slabs)
        return found if found.n_nan or found.n_inf else replace(found, window=(float(self.low), float(self.high)))

    def window(self, image: np.ndarray) -> tuple[float, float]:
        return float(self.low), float(self.high)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
