"""A DICOM series that was found: what its headers said travels along to where it is read, and written as another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.members import is_dicom_file
from medsr_monai.volumes.dicom.planes import find_planes
from medsr_monai.volumes.dicom.series import (
    ALL,
    ONLY,
    Series,
    choose_series,
    find_series,
    is_series_path,
    joined,
    series_path,
)
from medsr_monai.volumes.dicom.stacking import stack_planes
from medsr_monai.volumes.dicom.volume import DicomVolume


@dataclass(frozen=True, eq=False)
class DicomSource(os.PathLike[str]):
    """A series, and the path that names it; whoever takes the path alone has to find the series again.

    Args:
        path: see `series_path`.
        series: with its headers.
        uneven: "refuse" missing slices and uneven spacing, or "resample" onto an even grid.
    """

    path: Path
    series: Series
    uneven: str = "refuse"

    def __fspath__(self) -> str:
        return str(self.path)

    __str__ = __fspath__

    @cached_property
    def volume(self) -> DicomVolume:
        """The series as a volume, without its pixels.

        Raises:
            InputError: a damaged file, one that was changed since the series was found, images that are no volume.
        """
        return stack_planes(find_planes(self.series.headers), self.path, self.uneven)


def find_sources(path: str | Path, wanted: str | None = None, uneven: str = "refuse") -> list[DicomSource]:
    """Find series to read.

    Args:
        path: a folder (with all below it); a zip; a virtual series path; or one DICOM file: a multi-frame file is a
            series by itself, else it stands for its series in its folder.
        wanted: which series; see `choose_series`. None for that of a file or a virtual path.
        uneven: see `DicomSource`.

    Returns:
        One series, or all.

    Raises:
        InputError: see `find_series` and `choose_series`.
    """
    path = Path(path)
    root = path.parent if is_dicom_file(path) or is_series_path(path) else path
    return [DicomSource(series_path(root, one.uid), one, uneven) for one in _found(path, wanted)]


def open_series(path: str | Path | Sequence[str | Path], uneven: str = "refuse") -> DicomVolume:
    """Open a series without reading its pixels.

    Args:
        path: see `find_sources`, with exactly one series that is no localizer; or a list of files with one.
        uneven: see `DicomSource`.

    Raises:
        InputError: none or several such series, a damaged file, images that are no volume.
    """
    if isinstance(path, str | Path):
        (series,), name = _found(Path(path), None), Path(path)
    else:
        (series,) = choose_series(find_series(path, ONLY), None, "files")
        name = series.headers[0].member.path
    return DicomSource(name, series, uneven).volume


def _found(path: Path, wanted: str | None) -> list[Series]:
    if is_dicom_file(path):
        series = _series_of_file(path)
        return choose_series([series], wanted or series.uid, path)
    if is_series_path(path):
        wanted = path.name
    return choose_series(find_series(path, wanted or ONLY), wanted, path)


def _series_of_file(path: Path) -> Series:
    found = find_series(path, ALL)
    if not found:
        raise InputError(f"{path}: holds no image")
    (series,) = found
    if series.n_images > 1:
        return series
    others = [file for file in sorted(path.parent.iterdir()) if file != path and is_dicom_file(file)]
    return joined([series, *(other for other in find_series(others, series.uid) if other.uid == series.uid)])
