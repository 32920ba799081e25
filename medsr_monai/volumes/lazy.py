"""A volume whose voxels stay where they are, on disk or in memory, until their slices are asked for."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from nibabel.arrayproxy import ArrayProxy

from medsr_monai.acquisition import FixedWindow, IntensityRule, RobustRange
from medsr_monai.acquisition.intensity_range import IntensityScan
from medsr_monai.geometry import N_AXES, parse_orientation, reorient
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import itk_image, nifti
from medsr_monai.volumes.reading import read_info
from medsr_monai.volumes.volume import NIFTI_SUFFIXES, Volume, VolumeInfo, VolumePath, volume_suffix

_SCAN_VOXELS = 1 << 21

Planes = Callable[[int, int, int], np.ndarray]
"""Planes first ... last along the third axis of the file, of a volume of a series: in the file's orientation, float32,
intensity scaling applied."""


class LazyVolume(ExitStack):
    """A volume that is read slice by slice, turned to an orientation by flips and permutations.

    Close it, or use it as a context manager.

    Args:
        info: what its header says.
        planes: reads it.
        orientation: turn from the file's axes, see `reorient`; default is to canonical ones, closest to RAS.
        resources: are given back when it is closed.
    """

    def __init__(
        self,
        info: VolumeInfo,
        planes: Planes,
        orientation: np.ndarray | None = None,
        resources: ExitStack | None = None,
    ) -> None:
        super().__init__()
        self.info = info
        self.orientation = info.grid.canonical()[1] if orientation is None else orientation
        self.grid = info.grid.reoriented(self.orientation)
        self._planes = planes
        if resources is not None:
            self.enter_context(resources)

    @property
    def slow_axis(self) -> int:
        """The axis that varies slowest on disk: slabs along it are read, and written, in one piece."""
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
            start: first slice along the axis, turned.
            stop: one past the last.
            axis: turned axis; default is `slow_axis`.
            time: which volume of a series.

        Returns:
            float32, turned, intensity scaling applied, `stop - start` slices along the axis.

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
        for first, last in self._ranges():
            planes = self._planes(first, last, time)
            picked[..., first:last] = planes[(slice(None),) * file_axis + (slice(start, stop),)]
        return reorient(picked, self.orientation)

    def scan(self, intensity: IntensityRule | None = None, allow_constant: bool = False) -> list[IntensityScan]:
        """Look through all voxels in a few passes of bounded memory.

        Args:
            intensity: rule that finds the window of each volume; default is a robust range.
            allow_constant: accept an image whose voxels are all equal.

        Returns:
            Of each volume of a series, the least and largest value, and the window.

        Raises:
            InputError: voxels that are not finite, or a constant image.
        """
        rule = RobustRange() if intensity is None else intensity
        scans = [
            rule.scan(lambda t=time: (self._planes(first, last, t) for first, last in self._ranges()))  # type: ignore[misc]
            for time in range(self.n_times)
        ]
        is_constant = min(scan.low for scan in scans) == max(scan.high for scan in scans)
        n_nan, n_inf = sum(scan.n_nan for scan in scans), sum(scan.n_inf for scan in scans)
        counts = " and ".join(f"{n} {what}" for n, what in ((n_nan, "NaN"), (n_inf, "Inf")) if n)
        too_large = " (Inf includes values too large for float32)" if n_inf and self.info.dtype.itemsize > 4 else ""
        path = self.info.path
        if counts:
            raise InputError(f"{path}: {counts} voxels{too_large}; replace them first (e.g. numpy.nan_to_num)")
        if is_constant and not allow_constant:
            raise InputError(f"{path}: constant image, every voxel has the same value; check how it was exported")
        return scans

    def load(self) -> Volume:
        """Read all, in the file's orientation."""
        n = self.info.grid.shape[-1]
        if self.info.n_times is None:
            data = self._planes(0, n, 0)
        else:
            data = np.empty(self.info.shape, dtype=np.float32, order="F")
            for time in range(self.n_times):
                data[..., time] = self._planes(0, n, time)
        return self.info.with_voxels(data)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Ranges of planes along the file's slowest axis that fit a bounded memory."""
        n = self.info.grid.shape[-1]
        thick = max(1, _SCAN_VOXELS // math.prod(self.info.grid.shape[:-1]))
        return ((first, min(first + thick, n)) for first in range(0, n, thick))


def _array_planes(data: np.ndarray) -> Planes:
    """Of voxels in memory: (X, Y, Z) or (X, Y, Z, T)."""

    def read(first: int, last: int, time: int) -> np.ndarray:
        return (data[..., time] if data.ndim > N_AXES else data)[..., first:last]

    return read


def _stored_planes(info: VolumeInfo, file: BinaryIO, offset: int, dtype: np.dtype) -> Planes:
    """Of voxels one after the other, from some byte of a file on."""

    def read(first: int, last: int, time: int) -> np.ndarray:
        shape = (*info.grid.shape[:-1], last - first)
        plane = math.prod(shape[:-1]) * dtype.itemsize
        spec = (shape, dtype, offset + (time * info.grid.shape[-1] + first) * plane, info.slope, info.inter)
        # nibabel does the arithmetic of slope and intercept. Too large a float64 becomes Inf, which a scan counts.
        with nifti.errors_named(info.path), np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(ArrayProxy(file, spec, mmap=False), dtype=np.float32)

    return read


def _unpacked(info: VolumeInfo, folder: str | Path | None, in_memory: bool, resources: ExitStack) -> BinaryIO:
    """Unpack voxels to a temporary file without a name, which vanishes with the process; or to memory."""
    kind = nifti if volume_suffix(info.path) in NIFTI_SUFFIXES else itk_image
    try:
        # The stack closes it.
        file = io.BytesIO() if in_memory else resources.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
        for chunk in kind.unpack(info):
            file.write(chunk)
        file.flush()
    except OSError as error:
        cause, folder = error.strerror or error, folder or tempfile.gettempdir()
        raise InputError(f"{folder}: cannot hold the unpacked {info.path} ({cause}); free space") from error
    return cast(BinaryIO, file)


def open_volume(
    source: VolumePath | VolumeInfo,
    scratch_dir: str | Path | None = None,
    in_memory: bool = False,
    orientation: np.ndarray | None = None,
) -> LazyVolume:
    """Open a volume without reading its voxels.

    An uncompressed file is read where it lies; a compressed one is unpacked once. It is not mapped into memory, so that
    what is read is all that is held, and a file replaced meanwhile does no harm.

    Args:
        source: a .nii, .nii.gz, .mha, .mhd or .nrrd file, or a DICOM series, whose slices are decoded as they are asked
            for; what `read_info` says of one; or a `Volume` in memory. Compressed or multi-file .mha, .mhd and .nrrd
            pass through memory whole, once.
        scratch_dir: folder for unpacked voxels; default is the system's for temporary files.
        in_memory: keep unpacked, or decoded, voxels in memory.
        orientation: see `LazyVolume`.

    Raises:
        InputError: as `read_volume`, but for the voxels' values, which only `LazyVolume.scan` looks at.
    """
    info = source if isinstance(source, VolumeInfo) else read_info(source)
    if isinstance(info, Volume):
        return LazyVolume(info, _array_planes(info.data), orientation)
    if info.series is not None:
        series = info.series
        if in_memory:  # each slice is decoded once
            return LazyVolume(info, _array_planes(series.read(0, info.grid.shape[-1])), orientation)
        return LazyVolume(info, lambda first, last, time: series.read(first, last), orientation)
    assert info.place is not None
    is_packed, offset, dtype = info.place
    with ExitStack() as stack:  # what is opened is closed again where the rest fails
        if is_packed:
            file, offset = _unpacked(info, scratch_dir, in_memory, stack), 0
        else:
            with nifti.errors_named(info.path):
                file = stack.enter_context(info.path.open("rb"))
        return LazyVolume(info, _stored_planes(info, file, offset, dtype), orientation, stack.pop_all())


def read_volume(path: VolumePath, allow_constant: bool = False) -> Volume:
    """Read a 3D volume, or a 4D series, with its grid.

    A trailing axis of one voxel past the third is dropped. Values are float32 after the header's intensity scaling;
    float64 voxels are rounded to it.

    Args:
        path: a .nii, .nii.gz, .mha, .mhd or .nrrd file, or a DICOM series; what `find_volumes` gives.
        allow_constant: accept an image whose voxels are all equal, e.g. an empty mask.

    Returns:
        The volume, with data of shape (X, Y, Z) or (X, Y, Z, T).

    Raises:
        InputError: a file that cannot be opened, is damaged, no volume of a supported kind, not finite or constant.
    """
    with open_volume(path, in_memory=True) as opened, nifti.errors_named(Path(path)):
        volume = opened.load()
    open_volume(volume).scan(FixedWindow(), allow_constant)
    return volume


def voxels_to_unpack(info: VolumeInfo) -> int:
    """How many bytes `open_volume` will write to its scratch folder."""
    is_packed = info.place is not None and info.place.is_packed and not isinstance(info, Volume)
    return math.prod(info.shape) * info.dtype.itemsize if is_packed else 0
