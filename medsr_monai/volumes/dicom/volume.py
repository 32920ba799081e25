"""A DICOM series as a volume whose slices are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.headers import FileHeader
from medsr_monai.volumes.dicom.members import Opener
from medsr_monai.volumes.dicom.planes import Plane
from medsr_monai.volumes.dicom.stacking import Stack
from medsr_monai.volumes.dicom.storage import Storage


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """A series, read slice by slice.

    It holds headers' content and no open file, so it may be copied to other processes.

    Args:
        path: as it was asked for.
        uid: SeriesInstanceUID.
        modality: such as "CT".
        stack: its planes and where they lie.
        storage: how a series derived from it is stored.
    """

    path: Path
    uid: str
    modality: str
    stack: Stack
    storage: Storage
    _greatest: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie, RAS mm; axes are (columns, rows, slices), slices ascend along row x column."""
        return self.stack.grid

    @property
    def dtype(self) -> np.dtype:
        """Type of a derived series' stored numbers: intensity = slope * stored + inter."""
        return self.storage.dtype

    @property
    def slope(self) -> float:
        """See `dtype`."""
        return self.storage.slope

    @property
    def inter(self) -> float:
        """See `dtype`."""
        return self.storage.inter

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to make a volume of the files."""
        return self.stack.notes

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The source's images, in order; where slices were resampled, these are not the grid's."""
        return self.stack.planes

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read some slices, and no others; where they were resampled, their neighbours too.

        Args:
            start: first slice.
            stop: one past the last.

        Returns:
            (X, Y, stop - start), float32, rescaled.

        Raises:
            InputError: slices that the volume does not have, or a file that cannot be decoded.
        """
        columns, rows, n = self.grid.shape
        if not 0 <= start < stop <= n:
            raise InputError(f"{self.path}: no slices {start} to {stop} of {n}")
        slab = np.empty((columns, rows, stop - start), dtype=np.float32, order="F")
        if self.stack.places is None:
            self._read_planes(range(start, stop), slab)
            return slab
        places = self.stack.places[start:stop]
        first, last = int(np.floor(places[0])), int(np.ceil(places[-1]))
        neighbours = np.empty((columns, rows, last - first + 1), dtype=np.float32, order="F")
        self._read_planes(range(first, last + 1), neighbours)
        for k, place in enumerate(places - first):
            below = min(int(place), neighbours.shape[2] - 1)
            above = min(below + 1, neighbours.shape[2] - 1)
            share = np.float32(place - below)
            slab[..., k] = neighbours[..., below] * (1 - share) + neighbours[..., above] * share
        return slab

    def _read_planes(self, which: range, slab: np.ndarray) -> None:
        with Opener() as opener:
            for k in self._forward(which):
                stored = self._stored(k, opener)
                slab[..., k - which.start] = (stored.T * self.planes[k].slope + self.planes[k].inter).astype(np.float32)

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

    @property
    def headers(self) -> tuple[FileHeader, ...]:
        """The header of each file, that of the first slice first."""
        return tuple(dict.fromkeys(plane.header for plane in self.planes))
