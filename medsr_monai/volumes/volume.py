"""A volume in memory, and volumes on disk by name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.nifti1 import Nifti1Header

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom import DicomVolume

NIFTI_SUFFIXES = (".nii", ".nii.gz")
READABLE_SUFFIXES = (*NIFTI_SUFFIXES, ".mha", ".mhd", ".nrrd")
WRITABLE_SUFFIXES = (*NIFTI_SUFFIXES, ".mha", ".nrrd")
ZARR_SUFFIX = ".ome.zarr"
STREAMABLE_SUFFIXES = (*WRITABLE_SUFFIXES, ZARR_SUFFIX)
DICOM_SUFFIX = ".dcm"
"""Stands for a folder of DICOM files, one a slice; the folder itself may have any name."""
UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")


VolumePath = str | os.PathLike[str]
"""What names a volume; a `DicomSource` from `find_volumes` knows besides what the headers of its series said."""


class Place(NamedTuple):
    """Where the voxels of a file lie."""

    is_packed: bool
    offset: int  # in bytes, of the unpacked file
    dtype: np.dtype  # in the file's byte order


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
        series: the DICOM series, or None for other formats.
        place: where the voxels lie in the file; None for a DICOM series, and in memory.
    """

    path: Path
    grid: Grid
    n_times: int | None = None
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))
    slope: float = 1.0
    inter: float = 0.0
    header: Nifti1Header | None = None
    time_step: float | None = None
    series: DicomVolume | None = None
    place: Place | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z) or (X, Y, Z, T)."""
        return self.grid.shape if self.n_times is None else (*self.grid.shape, self.n_times)

    def with_voxels(self, data: np.ndarray) -> Volume:
        """The volume that this is said of."""
        return Volume(data=data, **{field.name: getattr(self, field.name) for field in fields(VolumeInfo)})


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume(VolumeInfo):
    """A volume read into memory: its header's content, and the voxels.

    Args:
        data: (X, Y, Z) or (X, Y, Z, T), float32, intensity scaling applied.
    """

    data: np.ndarray


def too_short(path: Path, n_bytes: int) -> InputError:
    """The one line about a header that claims more than its file holds."""
    return InputError(
        f"{path}: truncated, or a wrong header: it claims {n_bytes} bytes, and the file holds fewer; "
        "copy or download it again"
    )


def volume_suffix(path: VolumePath) -> str | None:
    """The lower-case suffix of a file name (".nii.gz" counts as one), or None if it is not a volume's."""
    name = Path(path).name.lower()
    # ".nii" does not end "x.nii.gz", so the order of the suffixes does not matter.
    return next((suffix for suffix in READABLE_SUFFIXES if name.endswith(suffix)), None)


def volume_stem(path: VolumePath) -> str:
    """Strip folder and suffix, ".nii.gz" and ".ome.zarr" as one; of an unknown suffix strip the last part.

    A DICOM series is called by its UID, which names nobody, and not by its folder, which may.
    """
    name = Path(path).name
    if UID.fullmatch(name):  # the series of a virtual path, whose dots begin no suffix
        return name
    suffix = ZARR_SUFFIX if name.lower().endswith(ZARR_SUFFIX) else volume_suffix(path)
    return Path(path).stem if suffix is None else name[: -len(suffix)]
