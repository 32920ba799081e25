"""Read a volume, or say in one line why it cannot be used."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from medsr_monai.system.errors import InputError
from medsr_monai.volumes import itk_image, nifti
from medsr_monai.volumes.dicom_series import is_dicom_volume, read_dicom, read_dicom_info
from medsr_monai.volumes.volume import NIFTI_SUFFIXES, READABLE_SUFFIXES, Volume, VolumeInfo, VolumePath, volume_suffix


def _check_file(path: Path) -> str:
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


def refuse_values(info: VolumeInfo, n_nan: int, n_inf: int, is_constant: bool) -> None:
    """Refuse voxels that nothing can be computed from.

    Raises:
        InputError: any that are not finite, or a constant image.
    """
    counts = " and ".join(f"{n} {what}" for n, what in ((n_nan, "NaN"), (n_inf, "Inf")) if n)
    too_large = " (Inf includes values too large for float32)" if n_inf and info.dtype.itemsize > 4 else ""
    if counts:
        raise InputError(f"{info.path}: {counts} voxels{too_large}; replace them first (e.g. numpy.nan_to_num)")
    if is_constant:
        raise InputError(f"{info.path}: constant image, every voxel has the same value; check how it was exported")


def _check_values(info: VolumeInfo, data: np.ndarray, allow_constant: bool) -> None:
    # A finite sum means finite voxels, and saves two masks the size of the image.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(data.sum(dtype=np.float64))
    n_nan, n_inf = (int(np.isnan(data).sum()), int(np.isinf(data).sum())) if suspicious else (0, 0)
    refuse_values(info, n_nan, n_inf, not allow_constant and not n_nan and bool(data.min() == data.max()))


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
        return read_dicom_info(path)
    path = Path(path)
    suffix = _check_file(path)
    return nifti.open_nifti(path)[0] if suffix in NIFTI_SUFFIXES else itk_image.open_itk(path)[0]


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
    if is_dicom_volume(path):
        info, data = read_dicom(path)
    elif _check_file(Path(path)) in NIFTI_SUFFIXES:
        info, data = nifti.read_nifti(Path(path))
    else:
        info, data = itk_image.read_itk(Path(path))
    _check_values(info, data, allow_constant)
    return Volume(data=data, **{field.name: getattr(info, field.name) for field in fields(info)})
