"""A DICOM series as a volume whose slices are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.headers import Header, read_header
from medsr_monai.volumes.dicom.latest import Latest
from medsr_monai.volumes.dicom.members import Opener, is_dicom_file
from medsr_monai.volumes.dicom.planes import Plane, read_planes
from medsr_monai.volumes.dicom.series import Series, choose_series, find_series, is_series_path
from medsr_monai.volumes.dicom.stacking import Stack, stack_planes
from medsr_monai.volumes.dicom.storage import Storage, choose_storage

_latest: Latest[DicomVolume] = Latest()


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
            # In the order of the files: what is in a zip can only be read forward.
            for k in sorted(which, key=lambda k: (self.planes[k].member, self.planes[k].frame)):
                plane = self.planes[k]
                stored = plane.pixels.read(plane.frame, opener)
                slab[..., k - which.start] = (stored.T * plane.slope + plane.inter).astype(np.float32)

    def headers(self) -> Iterator[Header]:
        """The whole header of each file, that of the first slice first."""
        with Opener() as opener:
            for member in dict.fromkeys(plane.member for plane in self.planes):
                with opener.open(member) as file:
                    header = read_header(member, file)
                yield header


def open_series(path: str | Path | Sequence[str | Path], uneven: str = "refuse") -> DicomVolume:
    """Open a series without reading its pixels.

    Args:
        path: a virtual series path (see `series_path`); a folder or zip with exactly one series that is no localizer; a
            list of files with one; or one DICOM file: a multi-frame file is a series by itself, else it stands for its
            series in its folder.
        uneven: "refuse" missing slices and uneven spacing, or "resample" onto an even grid.

    Returns:
        The volume.

    Raises:
        InputError: none or several such series, a damaged file, images that are no volume.
    """
    if not isinstance(path, str | Path):
        (series,) = choose_series(find_series(path), None, "files")
        return _opened(Path(series.members[0].path), series, uneven)
    path = Path(path)
    folder = path.parent if is_series_path(path) or is_dicom_file(path) else path
    return _latest.get((path, uneven), folder, lambda: _opened(path, _series_at(path), uneven))


def _opened(path: Path, series: Series, uneven: str) -> DicomVolume:
    planes = read_planes(series.members, series.uid)
    stack = stack_planes(planes, str(path), uneven)
    return DicomVolume(path, series.uid, series.modality, stack, choose_storage(stack.planes, series.modality))


def _series_at(path: Path) -> Series:
    found = find_series(path)
    if is_series_path(path) or not is_dicom_file(path):
        return choose_series(found, path.name if is_series_path(path) else None, path)[0]
    if not found:
        raise InputError(f"{path}: holds no image")
    if found[0].n_images > 1:
        return found[0]
    beside = find_series([file for file in sorted(path.parent.iterdir()) if is_dicom_file(file)])
    return choose_series(beside, found[0].uid, path)[0]
