"""A volume whose voxels stay on disk until their slices are asked for."""

from __future__ import annotations

import gzip
import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np
from nibabel.arrayproxy import ArrayProxy

from medsr_monai.acquisition.intensity_range import IntensityScan, window_of_slabs
from medsr_monai.geometry import N_AXES, parse_orientation, reorient
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import itk_image, nifti
from medsr_monai.volumes.dicom_series import say_what_was_done
from medsr_monai.volumes.reading import read_info, refuse_values
from medsr_monai.volumes.volume import NIFTI_SUFFIXES, VolumeInfo, VolumePath, volume_suffix

_CHUNK_BYTES = 1 << 22
_SCAN_VOXELS = 1 << 21


class LazyVolume:
    """A volume on disk, read slice by slice in canonical (closest to RAS) orientation.

    An uncompressed file is read where it lies; a compressed one is unpacked once into a temporary file without a name,
    which disappears with the process, whatever ends it. Neither is mapped into memory, so that what is read is all
    that is held, and a file replaced meanwhile does no harm. Close it, or use it as a context manager.

    Args:
        path: a .nii, .nii.gz, .mha, .mhd or .nrrd file, or a DICOM series, whose slices are decoded as they are asked
            for. Compressed or multi-file .mha, .mhd and .nrrd pass through memory whole, once, on opening.
        scratch_dir: folder for the unpacked voxels; default is the system's for temporary files.

    Raises:
        InputError: as `read_volume`, but for the voxels' values, which only `scan` looks at.
    """

    def __init__(self, path: VolumePath, scratch_dir: str | Path | None = None) -> None:
        self.info: VolumeInfo = read_info(path)
        say_what_was_done(self.info)
        self.grid, self.orientation = self.info.grid.canonical()
        self._stack = ExitStack()
        self._scratch_dir = scratch_dir
        try:
            if volume_suffix(path) in NIFTI_SUFFIXES:
                self._open_nifti(self.info.path)
            elif self.info.series is None:  # a series is read through the files of its slices
                self._open_itk(self.info.path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LazyVolume:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the file, and the room of the unpacked voxels."""
        self._stack.close()

    @property
    def slow_axis(self) -> int:
        """The canonical axis that varies slowest on disk: slabs along it are read, and written, in one piece."""
        return int(parse_orientation(self.orientation)[N_AXES - 1, 0])

    @property
    def is_descending(self) -> bool:
        """Whether slices that ascend along `slow_axis` descend in the file."""
        return bool(parse_orientation(self.orientation)[N_AXES - 1, 1] < 0)

    @property
    def n_times(self) -> int:
        """Volumes of the series, 1 if it is none."""
        return self.info.n_times or 1

    def read(self, start: int, stop: int, axis: int | None = None, time: int = 0) -> np.ndarray:
        """Read some slices; along `slow_axis` no other voxel is touched, along another the whole volume passes by.

        Args:
            start: first slice along the axis, in canonical orientation.
            stop: one past the last.
            axis: canonical axis; default is `slow_axis`.
            time: which volume of a series.

        Returns:
            float32 of canonical orientation, intensity scaling applied, `stop - start` slices along the axis.

        Raises:
            InputError: slices that the volume does not have, or a file that has become shorter.
        """
        axis = self.slow_axis if axis is None else axis
        n = self.grid.shape[axis]
        if not (0 <= start < stop <= n and 0 <= time < self.n_times):
            raise InputError(f"{self.info.path}: no slices {start} to {stop} of {n} on axis {axis}, volume {time}")
        file_axis = int(np.flatnonzero(self.orientation[:, 0] == axis)[0])
        if self.orientation[file_axis, 1] < 0:
            start, stop = n - stop, n - start
        if file_axis == N_AXES - 1:
            return reorient(self._planes(start, stop, time), self.orientation)
        shape = [*self.info.grid.shape]
        shape[file_axis] = stop - start
        picked = np.empty(shape, dtype=np.float32, order="F")
        for first, last in self._portions():
            planes = self._planes(first, last, time)
            picked[..., first:last] = planes[(slice(None),) * file_axis + (slice(start, stop),)]
        return reorient(picked, self.orientation)

    def scan(self, time: int = 0, allow_constant: bool = False) -> IntensityScan:
        """Find the range of the voxels in a few passes of bounded memory.

        Args:
            time: which volume of a series.
            allow_constant: accept a volume whose voxels are all equal.

        Returns:
            Least and largest value, and the window of `medsr_monai.transforms.NormaliseIntensityd`.

        Raises:
            InputError: voxels that are not finite, or a constant volume.
        """
        scan = window_of_slabs(lambda: (self._planes(first, last, time) for first, last in self._portions()))
        refuse_values(self.info, scan.n_nan, scan.n_inf, scan.low == scan.high and not allow_constant)
        return scan

    def _portions(self) -> Iterator[tuple[int, int]]:
        """Ranges of planes along the file's slowest axis that fit a bounded memory."""
        n = self.info.grid.shape[-1]
        thick = max(1, _SCAN_VOXELS // math.prod(self.info.grid.shape[:-1]))
        return ((first, min(first + thick, n)) for first in range(0, n, thick))

    def _planes(self, first: int, last: int, time: int) -> np.ndarray:
        """Planes along the file's slowest axis, in the file's orientation, float32."""
        if self.info.series is not None:
            return self.info.series.read(first, last)
        shape = (*self.info.grid.shape[:-1], last - first)
        plane = math.prod(shape[:-1]) * self._dtype.itemsize
        offset = self._offset + (time * self.info.grid.shape[-1] + first) * plane
        spec = (shape, self._dtype, offset, self.info.slope, self.info.inter)
        # nibabel's own arithmetic of slope and intercept, so that the numbers are those of `read_volume`.
        with nifti.errors_named(self.info.path), np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(ArrayProxy(self._file, spec, mmap=False), dtype=np.float32)

    def _open_nifti(self, path: Path) -> None:
        _, image = nifti.open_nifti(path)
        stored = cast(ArrayProxy, image.dataobj)
        self._dtype = stored.dtype
        n_bytes = math.prod(self.info.shape) * self._dtype.itemsize
        if path.name.lower().endswith(".gz"):
            self._file, self._offset = self._scratch(n_bytes), 0
            self._unpack(path, int(stored.offset), n_bytes)
        else:
            with nifti.errors_named(path):
                self._file, self._offset = self._opened(path), int(stored.offset)

    def _open_itk(self, path: Path) -> None:
        place = itk_image.find_raw_voxels(path, self.info)
        if place is not None:
            self._offset, self._dtype = place
            self._file = self._opened(path)
            return
        _, data = itk_image.read_itk(path, dtype=self.info.dtype)
        self._file, self._offset, self._dtype = self._scratch(data.nbytes), 0, data.dtype
        self._store(data.ravel(order="F").data)

    def _opened(self, path: Path) -> BinaryIO:
        return self._stack.enter_context(path.open("rb"))

    def _scratch(self, n_bytes: int) -> BinaryIO:
        try:
            return cast(BinaryIO, self._stack.enter_context(tempfile.TemporaryFile(dir=self._scratch_dir)))
        except OSError as error:
            raise self._no_room(n_bytes, error) from error

    def _store(self, chunk: bytes | memoryview) -> None:
        try:
            self._file.write(chunk)
            self._file.flush()
        except OSError as error:
            raise self._no_room(len(chunk), error) from error

    def _no_room(self, n_bytes: int, error: OSError) -> InputError:
        folder = self._scratch_dir or tempfile.gettempdir()
        cause = error.strerror or error
        return InputError(f"{folder}: cannot hold {n_bytes} unpacked bytes of {self.info.path} ({cause}); free space")

    def _unpack(self, path: Path, offset: int, n_bytes: int) -> None:
        with nifti.errors_named(path), gzip.open(path, "rb") as packed:
            packed.seek(offset)
            while n_bytes > 0:
                chunk = packed.read(min(n_bytes, _CHUNK_BYTES))
                if not chunk:
                    raise EOFError
                self._store(chunk)
                n_bytes -= len(chunk)
            packed.read(1)  # the checksum is compared at the end of the data


def open_volume(path: VolumePath, scratch_dir: str | Path | None = None) -> LazyVolume:
    """Open a volume without reading its voxels.

    Args:
        path: see `LazyVolume`.
        scratch_dir: see `LazyVolume`.

    Returns:
        The volume; it has the `Grid` of `read_volume(path)` in canonical orientation.

    Raises:
        InputError: see `LazyVolume`.
    """
    return LazyVolume(path, scratch_dir)


def voxels_to_unpack(path: VolumePath) -> int:
    """How many bytes `open_volume` will write to its scratch folder."""
    info = read_info(path)
    if info.series is not None:
        return 0
    if volume_suffix(path) in NIFTI_SUFFIXES:
        is_packed = info.path.name.lower().endswith(".gz")
    else:
        is_packed = itk_image.find_raw_voxels(info.path, info) is None
    return math.prod(info.shape) * info.dtype.itemsize if is_packed else 0
