"""A DICOM series as a volume whose slices are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.headers import FileHeader
from medsr_monai.volumes.dicom.members import Opener
from medsr_monai.volumes.dicom.planes import Plane
from medsr_monai.volumes.dicom.storage import Storage, choose_storage


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """A series, read slice by slice.

    It holds headers' content and no open file, so it may be copied to other processes.

    Args:
        path: as it was asked for.
        planes: the source's images, in ascending order along row x column.
        grid: where the voxels lie, RAS mm; axes are (columns, rows, slices).
        places: of each slice of the grid, where it lies between the planes, in planes; None where they are one.
        notes: what was done to make a volume of the files.
    """

    path: Path
    planes: tuple[Plane, ...]
    grid: Grid
    places: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    _greatest: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return self.planes[0].header.uid("SeriesInstanceUID")

    @cached_property
    def storage(self) -> Storage:
        """How a series derived from it is stored."""
        return choose_storage(self.planes)

    @property
    def headers(self) -> tuple[FileHeader, ...]:
        """The header of each file, that of the first slice first."""
        return tuple(dict.fromkeys(plane.header for plane in self.planes))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read slices from start to before stop, and no others; where they were resampled, their neighbours too.

        Returns:
            (X, Y, stop - start), float32, rescaled.

        Raises:
            InputError: slices that the volume does not have, or a file that cannot be decoded.
        """
        if not 0 <= start < stop <= self.grid.shape[2]:
            raise InputError(f"{self.path}: no slices {start} to {stop} of {self.grid.shape[2]}")
        if self.places is None:
            return self._read_planes(range(start, stop))
        places = self.places[start:stop]
        first, last = int(np.floor(places[0])), int(np.ceil(places[-1]))
        neighbours = self._read_planes(range(first, last + 1))
        slab = np.empty((*self.grid.shape[:2], stop - start), dtype=np.float32, order="F")
        for k, place in enumerate(places - first):
            below = min(int(place), last - first)
            above = min(below + 1, last - first)
            share = np.float32(place - below)
            slab[..., k] = neighbours[..., below] * (1 - share) + neighbours[..., above] * share
        return slab

    def _read_planes(self, which: range) -> np.ndarray:
        slab = np.empty((*self.grid.shape[:2], len(which)), dtype=np.float32, order="F")
        with Opener() as opener:
            for k in self._forward(which):
                stored = self._stored(k, opener)
                slab[..., k - which.start] = (stored.T * self.planes[k].slope + self.planes[k].inter).astype(np.float32)
        return slab

    def _forward(self, which: Iterable[int]) -> list[int]:
        """Planes in the order of the files: what is in a zip can only be read forward."""
        return sorted(which, key=lambda k: (self.planes[k].member, self.planes[k].frame))

    def _stored(self, k: int, opener: Opener) -> np.ndarray:
        plane = self.planes[k]
        stored = plane.pixels.read(plane.frame, opener)
        if k not in self._greatest:
            ends = np.array([stored.min(), stored.max()], dtype=np.float64)
            self._greatest[k] = float((ends * plane.slope + plane.inter).max())
        return stored

    def greatest_intensities(self) -> Iterator[float]:
        """The greatest intensity of each image; those that were not read before are read now."""
        with Opener() as opener:
            for k in self._forward(range(len(self.planes))):
                if k not in self._greatest:
                    self._stored(k, opener)
                yield self._greatest[k]
