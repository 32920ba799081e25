"""Write a volume, plane by plane or from memory: completely, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

import numpy as np

from medsr_monai.geometry import N_AXES, Grid, reorient
from medsr_monai.system.atomic import Together, replacing, replacing_folder
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import itk_image, nifti
from medsr_monai.volumes.dicom.derivation import classic_class
from medsr_monai.volumes.dicom.derived import DerivedSeriesWriter
from medsr_monai.volumes.gzip_stream import GzipStream
from medsr_monai.volumes.ome_zarr import OmeZarrPlanes
from medsr_monai.volumes.volume import (
    DICOM_SUFFIX,
    NIFTI_SUFFIXES,
    STREAMABLE_SUFFIXES,
    UID,
    ZARR_SUFFIX,
    Volume,
    VolumeInfo,
)
from medsr_monai.volumes.writing import choose_storage, to_stored, unwritable

_SLAB_VOXELS = 1 << 22


class _Sink(Protocol):
    def write(self, planes: np.ndarray) -> None: ...

    def finish(self) -> None: ...


class _PlanesBehindHeader:
    """A header, and the planes behind it, in a file or a stream that compresses.

    Args:
        file: takes bytes.
        header: comes first.
        finish: completes the file.
    """

    def __init__(self, file: BinaryIO | GzipStream, header: bytes, finish: Callable[[], Any]) -> None:
        self._file = file
        self.finish = finish
        file.write(header)

    def write(self, planes: np.ndarray) -> None:
        self._file.write(planes.ravel(order="F").data)


def streamable_suffix(path: str | Path) -> str:
    """The format that a name asks for; one without any suffix is that of a DICOM series' folder.

    Raises:
        InputError: none that can be written plane by plane.
    """
    name = Path(path).name.lower()
    for suffix in STREAMABLE_SUFFIXES:
        if name.endswith(suffix):
            return suffix
    # The dots of a UID, by which such a folder may be called, begin no suffix.
    if Path(path).suffix.lower() in ("", DICOM_SUFFIX) or Path(path).is_dir() or UID.match(Path(path).name):
        return DICOM_SUFFIX
    raise InputError(
        f"{path}: unknown output suffix; supported are {', '.join(STREAMABLE_SUFFIXES)}; for a DICOM series give a "
        "folder that is there or has no dot in its name"
    )


class SlabWriter:
    """A volume that is written plane by plane, in ascending order along the file's last spatial axis.

    A context manager: the name is given when the last plane is written; on any error, or when it is left early, no
    trace remains. Of a process that is killed, a hidden ".medsr-..." file or folder beside the target remains, which
    nothing reads.

    Args:
        path: .nii, .nii.gz, .mha, .nrrd, an .ome.zarr folder (see `OmeZarrPlanes`; extra `zarr`), or the new or empty
            folder of a DICOM series that is derived from `like` (see `DerivedSeriesWriter`; extra `dicom`).
        grid: where the voxels lie, in the orientation of the file.
        n_times: length of a series, whose volumes follow one another; None for a volume.
        like: the source, see `write_volume`.
        dtype: see `write_volume`; OME-Zarr holds no intensity scaling; DICOM stores whole numbers by the rule of
            `medsr_monai.volumes.dicom`.
        data_range: least and largest intensity of the source: where its display range (cal_min, cal_max) overlaps,
            it is kept.
        is_approximate: say so in the description of a NIfTI file, in the attributes of an OME-Zarr image, and in a
            field of their own, `approximate`, in the others.
        together: what gives the name, with those of other files; None to give it at once.
        algorithm: what made the image, for formats that say it (DICOM): bundle, version, settings.

    Raises:
        InputError: an unknown suffix or dtype, a side that the format cannot count, a missing extra, something else
            in the way, or, from any method, a file that cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        grid: Grid,
        n_times: int | None = None,
        like: VolumeInfo | None = None,
        dtype: str = "float32",
        data_range: tuple[float, float] = (-math.inf, math.inf),
        is_approximate: bool = False,
        together: Together | None = None,
        algorithm: str = "",
    ) -> None:
        self.path = Path(path)
        self.suffix = streamable_suffix(path)
        self.like = like
        self.data_range = data_range
        self.is_approximate = is_approximate
        self.algorithm = algorithm
        self._together = together
        kind, slope, inter = choose_storage(dtype, like, self.suffix in NIFTI_SUFFIXES)
        if self.suffix == DICOM_SUFFIX:
            _refuse_series(self.path, like)
            kind, slope, inter = np.dtype(np.float32), 1.0, 0.0  # what follows rounds, and counts clipping
        time_step = None if like is None else like.time_step
        self.info = VolumeInfo(
            path=self.path, grid=grid, n_times=n_times, dtype=kind, slope=slope, inter=inter, time_step=time_step
        )
        if self.suffix in NIFTI_SUFFIXES and max(self.info.shape) > nifti.MAX_SIDE:
            raise InputError(
                f"{path}: shape {self.info.shape}; a side of NIfTI-1 ends at {nifti.MAX_SIDE}, write .mha or .nrrd"
            )
        is_replaceable = _is_zarr if self.suffix == ZARR_SUFFIX else Path.is_file
        if self.suffix != DICOM_SUFFIX and self.path.exists() and not is_replaceable(self.path):
            raise InputError(f"{path}: something that is no {self.suffix} is in the way; choose another name")
        self._sink: _Sink | None = None
        self._n_written = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the voxels, uncompressed."""
        return math.prod(self.info.shape) * self.info.dtype.itemsize

    @property
    def is_compressed(self) -> bool:
        return self.suffix in (".nii.gz", ZARR_SUFFIX)

    def __enter__(self) -> SlabWriter:
        try:
            with ExitStack() as stack:
                self._sink = self._open(stack)
                self._stack = stack.pop_all()
        except OSError as error:
            raise unwritable(self.path, error) from error
        return self

    def _open(self, stack: ExitStack) -> _Sink:
        if self.suffix == ZARR_SUFFIX:
            folder = stack.enter_context(replacing_folder(self.path, self.suffix, self._together))
            return OmeZarrPlanes(folder, self.info, self.is_approximate)
        if self.suffix == DICOM_SUFFIX:
            assert self.like is not None and self.like.series is not None
            folder = stack.enter_context(replacing_folder(self.path, ".tmp", self._together))
            mark = ", approximate" if self.is_approximate else ""
            return DerivedSeriesWriter(folder, self.like.series, self.info.grid, f"{self.algorithm}{mark}")
        temporary = stack.enter_context(replacing(self.path, self.suffix, self._together))
        file = stack.enter_context(temporary.open("wb"))
        if self.suffix in NIFTI_SUFFIXES:
            header = nifti.file_header(self.info, self.like, self.data_range, self.is_approximate)
        else:
            header = itk_image.file_header(self.info, self.is_approximate)
        if self.suffix != ".nii.gz":
            return _PlanesBehindHeader(file, header, file.flush)
        stream = GzipStream(file, nifti.GZIP_LEVEL)
        stack.callback(stream.close)
        return _PlanesBehindHeader(stream, header, stream.finish)

    def write(self, planes: np.ndarray) -> None:
        """Append planes.

        Args:
            planes: (X, Y, n), real and finite intensities; none past the end of a volume of a series.

        Raises:
            InputError: planes of another shape, values that are not finite, or a file that cannot be written.
        """
        if self._sink is None:
            raise ValueError("a SlabWriter is a context manager: enter it first")
        columns, rows, n = self.info.grid.shape
        left = n - self._n_written % n
        if planes.ndim != N_AXES or planes.shape[:-1] != (columns, rows) or not 0 < planes.shape[-1] <= left:
            raise InputError(f"{self.path}: planes of shape {planes.shape}, but {left} are left of {self.info.shape}")
        n_bad = planes.size - int(np.isfinite(planes).sum())
        if n_bad:
            raise InputError(f"{self.path}: {n_bad} voxels to write are NaN or Inf; the computation before went wrong")
        kind, stored = self.info.dtype, to_stored(planes, self.info)
        if kind.kind == "f" and kind.itemsize < planes.dtype.itemsize and not np.isfinite(stored).all():
            raise InputError(f"{self.path}: values too large for {kind}; write float64")
        try:
            self._sink.write(stored)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._n_written += planes.shape[-1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(OSError):  # closing a file on a full disk fails once more; the first error is the one to tell
                self._stack.__exit__(kind, error, trace)
            return
        try:
            with self._stack:
                if self._n_written != math.prod(self.info.shape[N_AXES - 1 :]):
                    raise ValueError(f"{self.path}: {self._n_written} planes of {self.info.shape} were written")
                assert self._sink is not None
                self._sink.finish()
        except OSError as failure:
            raise unwritable(self.path, failure) from failure


class VolumeKeeper(AbstractContextManager["VolumeKeeper"]):
    """Takes the planes that a :class:`SlabWriter` takes, and keeps them as a volume in memory.

    Args:
        grid: where the voxels lie.
        like: the source: its name, the length of its series.
    """

    def __init__(self, grid: Grid, like: VolumeInfo) -> None:
        info = VolumeInfo(path=like.path, grid=grid, n_times=like.n_times, time_step=like.time_step)
        data = np.empty(info.shape, dtype=np.float32, order="F")
        self.volume = info.with_voxels(data)
        self._planes = data.reshape(*grid.shape[:-1], -1, order="F")
        self._n_written = 0

    def __exit__(self, *error: object) -> None:
        """Nothing is left to do."""

    def write(self, planes: np.ndarray) -> None:
        """Append planes (X, Y, n)."""
        self._planes[..., self._n_written : self._n_written + planes.shape[-1]] = planes
        self._n_written += planes.shape[-1]


def write_volume(
    path: str | Path, data: np.ndarray, grid: Grid, like: VolumeInfo | None = None, dtype: str = "float32"
) -> None:
    """Write a volume in memory under its name when it is complete, or not at all.

    NIfTI: qform and sform both hold the grid, in mm; where a quaternion cannot (e.g. sheared axes), the qform is marked
    absent. From `like` come the codes of the transforms and the fields that stay true: description, auxiliary file,
    intent unless it marks labels, display range, time step, and slice timing while the number of slices is the same.
    Extensions are dropped. The other formats hold the grid alone.

    Args:
        path: .nii, .nii.gz, .mha, .nrrd or .ome.zarr; its folder is created where it is missing.
        data: (X, Y, Z) or (X, Y, Z, T), real and finite.
        grid: where the voxels lie.
        like: the source, from `read_volume` or `read_info`.
        dtype: one of `DTYPES`. Integers are rounded and clipped to the type's range. "same" is the source's type, in
            NIfTI with its intensity scaling; where another format cannot hold that scaling, float32.

    Raises:
        InputError: wrong shape, values that are not finite, unknown suffix or dtype, or a file that cannot be written.
    """
    data = np.asarray(data)
    if streamable_suffix(path) == DICOM_SUFFIX:
        raise InputError(f"{path}: unknown output suffix; supported are {', '.join(STREAMABLE_SUFFIXES)}")
    if data.ndim not in (N_AXES, N_AXES + 1) or data.shape[:N_AXES] != grid.shape:
        raise InputError(
            f"{path}: data of shape {data.shape} on a grid of {grid.shape}; need (X, Y, Z) or (X, Y, Z, T)"
        )
    if data.dtype.kind not in "iufb":
        raise InputError(f"{path}: data of type {data.dtype}; need real numbers")
    if data.size == 0:
        raise InputError(f"{path}: data of shape {data.shape} hold no voxels")
    series = data if data.ndim > N_AXES else data[..., np.newaxis]
    n_times = data.shape[N_AXES] if data.ndim > N_AXES else None
    thick = max(1, _SLAB_VOXELS // math.prod(grid.shape[:-1]))
    with SlabWriter(path, grid, n_times, like, dtype, (float(data.min()), float(data.max()))) as writer:
        for volume in np.moveaxis(series, -1, 0):
            for start in range(0, grid.shape[-1], thick):
                writer.write(volume[..., start : start + thick])


def _is_zarr(folder: Path) -> bool:
    """Whether it is a folder that may be replaced: an earlier result, or empty."""
    is_earlier = (folder / "zarr.json").is_file() or (folder / ".zgroup").is_file()
    return is_earlier or (folder.is_dir() and not any(folder.iterdir()))


def write_derived_series(folder: str | Path, volume: Volume, source: VolumeInfo, algorithm: str) -> None:
    """Write a volume as a DICOM series that is derived from another; completely, or not at all.

    Its axes are turned to those of the source. How many voxels had to be clipped is logged.

    Args:
        folder: a new or empty one.
        volume: 3D, in the place and the intensities of the source.
        source: the series.
        algorithm: what made the volume: bundle, version, settings.

    Raises:
        InputError: a series of volumes, one in another place than the source or no finer than it, or a folder that
            cannot take it.
    """
    _refuse_series(Path(folder), source)
    if volume.n_times is not None:
        raise InputError(f"{volume.path}: a series of {volume.n_times} volumes; need a 3D volume, split it")
    if math.prod(volume.grid.shape) <= math.prod(source.grid.shape):
        raise InputError(f"{volume.path}: {volume.grid.shape} is no finer than the reference, {source.grid.shape}")
    place = np.linalg.solve(source.grid.affine, [*volume.grid.corners_mm.mean(axis=0), 1.0])[:N_AXES]
    if not all(-0.5 <= x <= n - 0.5 for x, n in zip(place, source.grid.shape, strict=True)):
        raise InputError(
            f"{volume.path}: its centre lies outside of the reference; name the scan that it was made from"
        )
    turn = volume.grid.orientation_to("".join(source.grid.axcodes))
    with SlabWriter(folder, volume.grid.reoriented(turn), like=source, algorithm=algorithm) as writer:
        writer.write(reorient(volume.data, turn))


def _refuse_series(folder: Path, source: VolumeInfo | None) -> None:
    """Refuse a folder that a derived series cannot take: something is in it, or there is nothing to derive it from."""
    if source is None or source.series is None:
        raise InputError(
            f"{folder}: a DICOM series can be derived from another only; write .nii.gz, or `medsr dicom write` it "
            "with a reference series"
        )
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder}: not an empty folder; a series needs a new or an empty one")
    classic_class(source.series)
