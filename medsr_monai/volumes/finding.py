"""Volumes on disk by what a user names: a file, a folder, a pattern, DICOM series."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom import DicomSource, find_sources, is_dicom
from medsr_monai.volumes.volume import READABLE_SUFFIXES, VolumePath, volume_suffix

UNEVEN = ("refuse", "resample")


def find_volumes(
    spec: VolumePath | Sequence[VolumePath], series: str | int | None = None, uneven: str = "refuse"
) -> list[Path | DicomSource]:
    """List the volumes that a file name, a folder or a glob pattern names.

    Args:
        spec: a file; a folder, whose volumes are taken without descending into it; or a pattern such as
            "data/sub-*/*.nii.gz" ("**" descends). Hidden files are skipped. Where there is no other volume, the DICOM
            series in a folder and those below it, in a zip, or that of a file. Several of these, too, and what was
            found before, which is not looked for again.
        series: which DICOM series, by UID or number, or ``all``; None for the only one.
        uneven: what becomes of slices that are missing or lie unevenly: ``refuse``, or ``resample`` them.

    Returns:
        The files, sorted; or DICOM series, each with what its headers said, as all that reads volumes takes them.

    Raises:
        InputError: nothing there, nothing of a readable format, or several DICOM series and none chosen.
    """
    if isinstance(spec, DicomSource):
        return [spec]
    if isinstance(spec, list | tuple):
        return [volume for one in spec for volume in find_volumes(one, series, uneven)]
    if not str(spec).strip():  # a Path would take it for the current folder
        raise InputError(f"input '{spec}': an empty name; name a file, a folder or a glob pattern")
    if uneven not in UNEVEN:
        raise InputError(f"uneven '{uneven}': choose one of {', '.join(UNEVEN)}")
    path = Path(str(spec)).expanduser()
    if series is None:
        found = _find_files(path)
        if found:
            return [*found]
    if is_dicom(path):
        return [*find_sources(path, None if series is None else str(series), uneven)]
    if series is not None:
        raise InputError(f"{path}: no DICOM, so there is no series {series} to choose")
    raise InputError(f"{path}: {_what_is_missing(path)}; looked for {', '.join(READABLE_SUFFIXES)} and DICOM")


def _find_files(path: Path) -> list[Path]:
    # A name that exists is taken literally, so "scan[1].nii" is a file and not a pattern.
    if path.is_file():
        return [path] if volume_suffix(path) else []
    if path.is_dir():
        candidates = list(path.iterdir())
    else:
        candidates = [Path(name) for name in glob.glob(str(path), recursive=True)]
    return sorted(c for c in candidates if c.is_file() and not c.name.startswith(".") and volume_suffix(c))


def _what_is_missing(path: Path) -> str:
    if path.is_file():
        return "no volume"
    if path.is_dir():
        return "no volume in this folder"
    return "no volume matches" if glob.has_magic(str(path)) else "no such file or folder"
