"""How intensities become the 16-bit numbers of a derived series."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medsr_monai.volumes.dicom.planes import Plane

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Storage:
    """intensity = slope * stored + inter, with stored numbers of int16 or uint16 and a positive slope."""

    dtype: np.dtype
    slope: float
    inter: float

    def stored(self, intensities: np.ndarray) -> tuple[np.ndarray, int]:
        """Numbers rounded half to even and clipped to the range of the type, and how many were clipped."""
        scaled = np.rint((intensities.astype(np.float64) - self.inter) / self.slope)
        low, high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        n_clipped = int(np.count_nonzero((scaled < low) | (scaled > high)))
        return np.clip(scaled, low, high).astype(self.dtype), n_clipped


def with_room_below(storage: Storage, greatest: Iterable[float]) -> Storage:
    """Store what never leaves int16 as int16, whatever the header would allow: a network's undershoot below 0 then has
    room. Most scanners that declare 16 unsigned bits use a few thousand values. The greatest intensity of each image of
    the source is looked at only where its storage is unsigned."""
    if storage.dtype != np.uint16 or any(storage.stored(np.array(one))[0] > _INT16.max for one in greatest):
        return storage
    return replace(storage, dtype=np.dtype(np.int16))


def choose_storage(planes: Sequence[Plane]) -> Storage:
    """Choose how a series derived from these planes is stored.

    CT in whole Hounsfield units is stored as such, without an intercept, so that overshoot below -1024 has room.
    Else slope and intercept are those of the plane with the largest slope, as int16; as uint16 where the source may
    hold more than int16 and nothing negative. Sources of more than 16 bits get a slope that spreads int16 over them.
    """
    widest = max(planes, key=lambda plane: abs(plane.slope))
    if planes[0].header.text("Modality") == "CT" and all(
        plane.slope == 1 and plane.inter.is_integer() for plane in planes
    ):
        return Storage(np.dtype(np.int16), 1.0, 0.0)
    low, high = widest.pixels.stored_range
    slope, inter = abs(widest.slope), widest.inter
    if widest.slope < 0:
        low, high = -high, -low
    if low >= 0 and _INT16.max < high <= np.iinfo(np.uint16).max:
        return Storage(np.dtype(np.uint16), slope, inter)
    excess = max(high / _INT16.max, low / _INT16.min, 1.0)
    return Storage(np.dtype(np.int16), slope * excess, inter)
