"""What writing a volume needs: the type on disk, a folder that can be written to, names given together."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from medsr_monai.system.atomic import Together
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.volume import VolumeInfo, VolumePath

DTYPES = ("float32", "float64", "int16", "uint8", "uint16", "int32", "same")


def choose_storage(dtype: str, like: VolumeInfo | None, is_nifti: bool) -> tuple[np.dtype, float, float]:
    """Choose the type on disk, slope and intercept."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype}: choose one of {', '.join(DTYPES)}")
    if dtype != "same":
        return np.dtype(dtype), 1.0, 0.0
    if like is None:
        raise InputError("dtype same: needs the source volume (like); name a type instead")
    if like.dtype.kind not in "iu":
        return np.dtype(np.float64 if like.dtype.itemsize > 4 else np.float32), 1.0, 0.0
    if (like.slope, like.inter) == (1, 0) or is_nifti:
        return like.dtype, like.slope, like.inter
    # Without a scale in the header, rounding would reduce intensities such as 0 ... 1 to two values.
    return np.dtype(np.float32), 1.0, 0.0


def to_stored(data: np.ndarray, info: VolumeInfo) -> np.ndarray:
    """Convert to what is stored: integers are rounded (halves to even) and clipped to the type's range."""
    dtype, slope, inter = info.dtype, info.slope, info.inter
    if data.dtype == dtype and (slope, inter) == (1, 0):
        return data
    if dtype.kind not in "iu":
        with np.errstate(over="ignore"):
            return data.astype(dtype, copy=False)
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


def refuse_overwriting(source: VolumePath, target: str | Path) -> None:
    """Refuse an output that is the input, by whatever name.

    Raises:
        InputError: it is.
    """
    both_exist = os.path.exists(source) and os.path.exists(target)
    if os.path.realpath(source) == os.path.realpath(target) or (both_exist and os.path.samefile(source, target)):
        raise InputError(f"{target}: would overwrite the input; choose another name")


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
