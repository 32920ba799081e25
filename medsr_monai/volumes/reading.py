"""Read what the header of a volume says, or say in one line why the volume cannot be used."""

from __future__ import annotations

from pathlib import Path

from medsr_monai.system.errors import InputError
from medsr_monai.volumes import itk_image, nifti
from medsr_monai.volumes.dicom_series import is_dicom_volume, read_dicom_info
from medsr_monai.volumes.volume import NIFTI_SUFFIXES, READABLE_SUFFIXES, VolumeInfo, VolumePath, volume_suffix


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
