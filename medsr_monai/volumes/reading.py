"""Read what the header of a volume says, or say in one line why the volume cannot be used."""

from __future__ import annotations

import logging
from pathlib import Path

from medsr_monai.system.errors import InputError
from medsr_monai.volumes import itk_image, nifti
from medsr_monai.volumes.dicom import DicomSource, is_dicom, open_series
from medsr_monai.volumes.volume import NIFTI_SUFFIXES, READABLE_SUFFIXES, VolumeInfo, VolumePath, volume_suffix

log = logging.getLogger(__name__)


def is_dicom_volume(path: VolumePath) -> bool:
    """Whether a path names DICOM, a series among others (see `find_volumes`), and no file of another format."""
    if isinstance(path, DicomSource):
        return True
    path = Path(path)
    return not (path.is_file() and volume_suffix(path)) and is_dicom(path)


def read_info(path: VolumePath) -> VolumeInfo:
    """Read what the header says, not the voxels.

    Args:
        path: a .nii, .nii.gz, .mha, .mhd or .nrrd file, or a DICOM series; what `find_volumes` gives.

    Returns:
        Grid, type and header.

    Raises:
        InputError: a file that cannot be opened, is no supported volume, or is shorter than its header claims.
    """
    if is_dicom_volume(path):
        series = path.volume if isinstance(path, DicomSource) else open_series(Path(path))
        kept = series.storage
        return VolumeInfo(
            path=series.path, grid=series.grid, dtype=kept.dtype, slope=kept.slope, inter=kept.inter, series=series
        )
    path = Path(path)
    return (nifti if _checked_suffix(path) in NIFTI_SUFFIXES else itk_image).read_header(path)


def _checked_suffix(path: Path) -> str:
    try:
        if path.is_dir():
            raise InputError(
                f"{path}: a folder without DICOM, not a volume; name a file in it: {', '.join(READABLE_SUFFIXES)}"
            )
        if not path.exists():
            raise InputError(f"{path}: no such file")
        suffix = volume_suffix(path)
        if suffix is None:
            raise InputError(f"{path}: unknown suffix; supported are {', '.join(READABLE_SUFFIXES)}")
        with open(path, "rb") as file:
            if not file.read(1):
                raise InputError(f"{path}: empty file (0 bytes); copy or download it again")
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    return suffix


def say_what_was_done(info: VolumeInfo) -> None:
    """Log what was done to the slices of a series before it became a volume: duplicates, resampling, tilt."""
    for note in () if info.series is None else info.series.notes:
        log.warning("%s: %s", info.path, note)
