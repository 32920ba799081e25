"""A volume in memory, and volumes on disk by name."""

from __future__ import annotations

import glob
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header

from medsr_monai.errors import InputError
from medsr_monai.geometry import Grid

NIFTI_SUFFIXES = (".nii", ".nii.gz")
READABLE_SUFFIXES = (*NIFTI_SUFFIXES, ".mha", ".mhd", ".nrrd")
WRITABLE_SUFFIXES = (*NIFTI_SUFFIXES, ".mha", ".nrrd")
ZARR_SUFFIX = ".ome.zarr"
STREAMABLE_SUFFIXES = (*WRITABLE_SUFFIXES, ZARR_SUFFIX)


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeInfo:
    """What the header of a volume file says.

    Args:
        path: the file.
        grid: where the voxels lie, in RAS mm.
        n_times: length of the fourth axis, or None for a volume without one.
        dtype: the type of the voxels on disk, in native byte order.
        slope: intensity = slope * stored + inter; (1, 0) where nothing is scaled.
        inter: see `slope`.
        header: the NIfTI header (a Nifti2Header is one too), or None for other formats.
        time_step: spacing of the fourth axis in the unit of the header, if it has one.
    """

    path: Path
    grid: Grid
    n_times: int | None = None
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))
    slope: float = 1.0
    inter: float = 0.0
    header: Nifti1Header | None = None
    time_step: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z) or (X, Y, Z, T)."""
        return self.grid.shape if self.n_times is None else (*self.grid.shape, self.n_times)


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume(VolumeInfo):
    """A volume read into memory: its header's content, and the voxels.

    Args:
        data: (X, Y, Z) or (X, Y, Z, T), float32, intensity scaling applied.
    """

    data: np.ndarray


def volume_suffix(path: str | Path) -> str | None:
    """Tell the format by the name.

    Args:
        path: a file name.

    Returns:
        The lower-case suffix (".nii.gz" counts as one), or None if it is not a volume's.
    """
    name = Path(path).name.lower()
    # ".nii" does not end "x.nii.gz", so the order of the suffixes does not matter.
    return next((suffix for suffix in READABLE_SUFFIXES if name.endswith(suffix)), None)


def volume_stem(path: str | Path) -> str:
    """Strip folder and suffix, ".nii.gz" and ".ome.zarr" as one; of an unknown suffix strip the last part.

    Args:
        path: a file name.

    Returns:
        The bare name.
    """
    suffix = ZARR_SUFFIX if Path(path).name.lower().endswith(ZARR_SUFFIX) else volume_suffix(path)
    return Path(path).stem if suffix is None else Path(path).name[: -len(suffix)]


def find_volumes(spec: str | Path) -> list[Path]:
    """List the volumes that a file name, a folder or a glob pattern names.

    Args:
        spec: a file; a folder, whose volumes are taken without descending into it; or a pattern such as
            "data/sub-*/*.nii.gz" ("**" descends). Hidden files are skipped.

    Returns:
        The files, sorted.

    Raises:
        InputError: nothing there, or nothing of a readable format.
    """
    if not str(spec).strip():  # a Path would take it for the current folder
        raise InputError(f"input '{spec}': an empty name; name a file, a folder or a glob pattern")
    path = Path(spec).expanduser()
    formats = ", ".join(READABLE_SUFFIXES)
    # A name that exists is taken literally, so "scan[1].nii" is a file and not a pattern.
    if path.is_file():
        if volume_suffix(path) is None:
            raise InputError(f"{path}: unknown suffix; supported are {formats}")
        return [path]
    if path.is_dir():
        candidates, place = list(path.iterdir()), "no volume in this folder"
    elif glob.has_magic(str(path)):
        candidates, place = [Path(name) for name in glob.glob(str(path), recursive=True)], "no volume matches"
    else:
        raise InputError(f"{path}: no such file or folder")
    found = sorted(c for c in candidates if c.is_file() and not c.name.startswith(".") and volume_suffix(c))
    if not found:
        raise InputError(f"{path}: {place}; looked for {formats}")
    return found
