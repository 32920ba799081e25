"""Volumes on disk by what a user names: a file, a folder, a pattern, DICOM series."""

from __future__ import annotations

import glob
from pathlib import Path

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom import choose_series, find_series, is_dicom, series_path
from medsr_monai.volumes.volume import EVENLY, READABLE_SUFFIXES, volume_suffix

UNEVEN = ("refuse", "resample")


def find_volumes(spec: str | Path, series: str | int | None = None, uneven: str = "refuse") -> list[Path]:
    """List the volumes that a file name, a folder or a glob pattern names.

    Args:
        spec: a file; a folder, whose volumes are taken without descending into it; or a pattern such as
            "data/sub-*/*.nii.gz" ("**" descends). Hidden files are skipped. Where there is no other volume, the DICOM
            series in a folder and those below it, in a zip, or that of a file.
        series: which DICOM series, by UID or number, or ``all``; None for the only one.
        uneven: what becomes of slices that are missing or lie unevenly: ``refuse``, or ``resample`` them.

    Returns:
        The files, sorted; a DICOM series as a path of its own, `medsr_monai.volumes.dicom.series_path`.

    Raises:
        InputError: nothing there, nothing of a readable format, or several DICOM series and none chosen.
    """
    if not str(spec).strip():  # a Path would take it for the current folder
        raise InputError(f"input '{spec}': an empty name; name a file, a folder or a glob pattern")
    if uneven not in UNEVEN:
        raise InputError(f"uneven '{uneven}': choose one of {', '.join(UNEVEN)}")
    path = Path(spec).expanduser()
    if series is None:
        found = _find_files(path)
        if found:
            return found
    if is_dicom(path):
        chosen = choose_series(find_series(path), None if series is None else str(series), path)
        root = path if path.is_dir() or path.suffix.lower() == ".zip" else path.parent
        suffix = EVENLY if uneven == "resample" else ""
        return [Path(f"{series_path(root, one.uid)}{suffix}") for one in chosen]
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
