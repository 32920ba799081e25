"""Write a volume completely or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from medsr_monai.geometry import N_AXES, Grid
from medsr_monai.system.atomic import Together, replacing
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import itk_image, nifti
from medsr_monai.volumes.volume import NIFTI_SUFFIXES, WRITABLE_SUFFIXES, VolumeInfo, volume_suffix

DTYPES = ("float32", "float64", "int16", "uint8", "uint16", "int32", "same")

_UNSCALED = (1.0, 0.0)


def choose_storage(dtype: str, like: VolumeInfo | None, is_nifti: bool) -> tuple[np.dtype, tuple[float, float]]:
    """Choose the type on disk and (slope, inter)."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype}: choose one of {', '.join(DTYPES)}")
    if dtype != "same":
        return np.dtype(dtype), _UNSCALED
    if like is None:
        raise InputError("dtype same: needs the source volume (like); name a type instead")
    if like.dtype.kind not in "iu":
        return np.dtype(np.float64 if like.dtype.itemsize > 4 else np.float32), _UNSCALED
    scaling = (like.slope, like.inter)
    if scaling == _UNSCALED or is_nifti:
        return like.dtype, scaling
    # Without a scale in the header, rounding would reduce intensities such as 0 ... 1 to two values.
    return np.dtype(np.float32), _UNSCALED


def to_stored(data: np.ndarray, dtype: np.dtype, scaling: tuple[float, float]) -> np.ndarray:
    """Convert to what is stored: integers are rounded (halves to even) and clipped to the type's range."""
    if data.dtype == dtype and scaling == _UNSCALED:
        return data
    if dtype.kind not in "iu":
        with np.errstate(over="ignore"):
            return data.astype(dtype, copy=False)
    slope, inter = scaling
    limits = np.iinfo(dtype)
    # The largest 64-bit integers have no float64 of their own and would round up, out of the range.
    low, high = float(limits.min), float(limits.max)
    high = high if int(high) <= limits.max else float(np.nextafter(high, 0))
    stored = np.empty(data.shape, dtype, order="F")
    for k in range(data.shape[-1]):  # slice by slice, since float64 copies of the whole would not fit where the data do
        exact = (data[..., k].astype(np.float64) - inter) / slope
        stored[..., k] = np.clip(np.rint(exact), low, high).astype(dtype)
    return stored


def prepare_folder(path: str | Path) -> Path:
    """Make a folder where it is missing and try to write there, before hours of work are spent on what cannot be saved.

    Args:
        path: the folder.

    Returns:
        The same path.

    Raises:
        InputError: it cannot be made or written to.
    """
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written to ({error.strerror or error}); choose another folder"
        ) from error


def unwritable(path: Path, error: OSError) -> InputError:
    """The one line about an output that could not be written."""
    return InputError(f"{path}: cannot be written ({error.strerror or error}); check folder and free space")


class OutputsTogether(Together):
    """Outputs of one input, such as mean and deviation: they appear when all of them are complete, or none does.

    Raises:
        InputError: on leaving it, a name that cannot be given.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        except OSError as failure:
            raise unwritable(Path(failure.filename2 or failure.filename), failure) from failure


def write_volume(
    path: str | Path,
    data: np.ndarray,
    grid: Grid,
    like: VolumeInfo | None = None,
    dtype: str = "float32",
    is_approximate: bool = False,
    together: Together | None = None,
) -> None:
    """Write a volume under its name when it is complete, or not at all.

    NIfTI: qform and sform both hold the grid, in mm; where a quaternion cannot (e.g. sheared axes), the qform is marked
    absent. From `like` come the codes of the transforms and the fields that stay true: description, auxiliary file,
    intent unless it marks labels, display range, time step, and slice timing while the number of slices is the same.
    Extensions are dropped. The other formats hold the grid alone.

    Args:
        path: .nii, .nii.gz, .mha or .nrrd; its folder is created where it is missing.
        data: (X, Y, Z) or (X, Y, Z, T), real and finite.
        grid: where the voxels lie.
        like: the source, from `read_volume` or `read_info`.
        dtype: one of `DTYPES`. Integers are rounded and clipped to the type's range. "same" is the source's type, in
            NIfTI with its intensity scaling; where another format cannot hold that scaling, float32.
        is_approximate: see :class:`SlabWriter`.
        together: what gives the name, with those of other files; None to give it at once.

    Raises:
        InputError: wrong shape, values that are not finite, unknown suffix or dtype, or a file that cannot be written.
    """
    path = Path(path)
    suffix = volume_suffix(path)
    if suffix not in WRITABLE_SUFFIXES:
        raise InputError(f"{path}: unknown output suffix; supported are {', '.join(WRITABLE_SUFFIXES)}")
    data = np.asarray(data)
    if data.ndim not in (N_AXES, N_AXES + 1) or data.shape[:N_AXES] != grid.shape:
        raise InputError(
            f"{path}: data of shape {data.shape} on a grid of {grid.shape}; need (X, Y, Z) or (X, Y, Z, T)"
        )
    if data.dtype.kind not in "iufb":
        raise InputError(f"{path}: data of type {data.dtype}; need real numbers")
    if suffix in NIFTI_SUFFIXES and max(data.shape) > nifti.MAX_SIDE:
        raise InputError(f"{path}: shape {data.shape}; a side of NIfTI-1 ends at {nifti.MAX_SIDE}, write .mha or .nrrd")
    if data.size == 0:
        raise InputError(f"{path}: data of shape {data.shape} hold no voxels")
    n_bad = data.size - int(np.isfinite(data).sum())
    if n_bad:
        raise InputError(f"{path}: {n_bad} voxels to write are NaN or Inf; the computation before went wrong")
    storage, scaling = choose_storage(dtype, like, suffix in NIFTI_SUFFIXES)
    stored = to_stored(data, storage, scaling)
    if storage.kind == "f" and storage.itemsize < data.dtype.itemsize and not np.isfinite(stored).all():
        raise InputError(f"{path}: values too large for {storage}; write float64")
    try:
        with replacing(path, suffix, together) as temporary:
            if suffix in NIFTI_SUFFIXES:
                nifti.write_nifti(temporary, stored, grid, like, scaling, is_approximate)
            else:
                itk_image.write_itk(temporary, stored, grid, None if like is None else like.time_step, is_approximate)
    except OSError as error:
        raise unwritable(path, error) from error
