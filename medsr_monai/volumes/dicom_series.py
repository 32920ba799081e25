"""A DICOM series as a volume like any other."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsr_monai.geometry import N_AXES, Grid
from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom import (
    DerivedSeriesWriter,
    DicomSource,
    DicomVolume,
    is_dicom,
    open_series,
    refuse_source,
    write_derived,
)
from medsr_monai.volumes.volume import Volume, VolumeInfo, VolumePath, volume_suffix


def is_dicom_volume(path: VolumePath) -> bool:
    """Whether a path names DICOM, a series among others (see `find_volumes`), and no file of another format."""
    if isinstance(path, DicomSource):
        return True
    path = Path(path)
    return not (path.is_file() and volume_suffix(path)) and is_dicom(path)


def read_dicom_info(path: VolumePath) -> VolumeInfo:
    """What the headers of a series say.

    Raises:
        InputError: see `medsr_monai.volumes.dicom.open_series`.
    """
    series = path.volume if isinstance(path, DicomSource) else open_series(Path(path))
    return VolumeInfo(
        path=series.path, grid=series.grid, dtype=series.dtype, slope=series.slope, inter=series.inter, series=series
    )


log = logging.getLogger(__name__)


@dataclass
class DicomPlanes:
    """The sink of a derived series: one file a slice in a folder.

    Args:
        folder: to write to.
        grid: where the voxels lie.
        source: the series that it is derived from.
        algorithm: what made it: bundle, version, settings.
    """

    folder: Path
    grid: Grid
    source: DicomVolume
    algorithm: str

    def __post_init__(self) -> None:
        self._writer = DerivedSeriesWriter(self.folder, self.source, self.grid, self.algorithm, self.source.notes)

    def write(self, planes: np.ndarray) -> None:
        self._writer.write(planes)

    def finish(self) -> None:
        self._writer.finish()
        if self._writer.n_clipped:
            log.warning("%d voxels clipped to the range of the stored type", self._writer.n_clipped)


def say_what_was_done(info: VolumeInfo) -> None:
    """Log what was done to the slices of a series before it became a volume: duplicates, resampling, tilt."""
    for note in () if info.series is None else info.series.notes:
        log.warning("%s: %s", info.path, note)


def write_derived_series(folder: str | Path, volume: Volume, source: VolumeInfo, algorithm: str) -> int:
    """Write a volume as a DICOM series that is derived from another; completely, or not at all.

    Args:
        folder: a new or empty one.
        volume: 3D, in the place and the intensities of the source.
        source: the series.
        algorithm: what made the volume.

    Returns:
        How many voxels were clipped to the range of the stored type.

    Raises:
        InputError: a series of volumes, one in another place than the source or no finer than it, or a folder that
            cannot take it.
    """
    refuse_target(Path(folder), source)
    assert source.series is not None
    if volume.n_times is not None:
        raise InputError(f"{volume.path}: a series of {volume.n_times} volumes; need a 3D volume, split it")
    _refuse_another_scan(volume, source)
    try:
        with replacing(folder, folder=True) as temporary:
            return write_derived(temporary, volume.data, volume.grid, source.series, algorithm).n_clipped
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); free space") from error


def _refuse_another_scan(volume: VolumeInfo, source: VolumeInfo) -> None:
    """The series says of what it is made: of that scan, and of more voxels."""
    if math.prod(volume.grid.shape) <= math.prod(source.grid.shape):
        raise InputError(f"{volume.path}: {volume.grid.shape} is no finer than the reference, {source.grid.shape}")
    centre = volume.grid.corners_mm.mean(axis=0)
    place = np.linalg.solve(source.grid.affine, [*centre, 1.0])[:N_AXES]
    if not all(-0.5 <= x <= n - 0.5 for x, n in zip(place, source.grid.shape, strict=True)):
        raise InputError(
            f"{volume.path}: its centre lies outside of the reference; name the scan that it was made from"
        )


def refuse_target(path: Path, source: VolumeInfo | None) -> None:
    """Refuse a folder that a derived series cannot take.

    Raises:
        InputError: something is in it, or the source is no DICOM series, or none that others can be derived from.
    """
    if source is None or source.series is None:
        raise InputError(
            f"{path}: a DICOM series can be derived from another only; write .nii.gz, or `medsr dicom write` it "
            "with a reference series"
        )
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InputError(f"{path}: not an empty folder; a series needs a new or an empty one")
    refuse_source(source.series)
