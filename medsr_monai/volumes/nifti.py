"""NIfTI files: reading with nibabel, and the header of a new file."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel import imageglobals
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from medsr_monai.geometry import N_AXES, Grid, corner_error_mm
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.volume import Place, VolumeInfo, too_short

# deflate cannot shrink anything further than this, so a header that claims more voxels is wrong.
MAX_DEFLATE_RATIO = 1032
# Images compress less than this; of a file that claims more, the bytes are counted before memory is asked for.
_USUAL_DEFLATE_RATIO = 30
_CHUNK_BYTES = 1 << 22
_GZIP_MAGIC = b"\x1f\x8b"
_SNIFFED_BYTES = 1 << 12  # at least what nibabel reads to tell the file type

_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units: metre, millimetre, micrometre
_MM, _TIME_UNIT_BITS = 2, 0b111000
# Intents that stay true of a super-resolved image: none, statistics, estimate, dimensionless; time series.
_KEPT_INTENTS = {0, *range(2, 25), 1001, 1011, 2001}
_SCANNER = 1
_DESCRIPTION_BYTES = 79  # of 80, the last one ends the text
MAX_SIDE = 32767  # NIfTI-1 counts voxels in int16

# A qform whose corners miss the grid by more than this is marked absent: float32 quaternions of a scan that is tilted
# by about a degree cannot do better. Where the sform's code is not "scanner", ITK prefers the qform: less is allowed.
_QFORM_TOLERANCE_MM = 5e-3
_PREFERRED_QFORM_TOLERANCE_MM = 5e-4
GZIP_LEVEL = 1  # 256^3 noisy float32: 3 s and 55 MB; level 6 takes 5 s for the same size

# What nibabel and zlib raise on a bad file; the first that fits says what it is.
_CAUSES: dict[tuple[type[Exception], ...], str] = {
    (EOFError, zlib.error, gzip.BadGzipFile): "truncated or damaged gzip data; copy or download it again",
    (MemoryError,): "does not fit into memory; crop it or use a machine with more",
    (ImageFileError, HeaderDataError, HeaderTypeError): "not a valid NIfTI file (bad header); export it again",
    (OSError,): "cannot be read or is truncated; copy or download it again",
    (ValueError, OverflowError, KeyError, TypeError): "damaged NIfTI file (inconsistent header); export it again",
}
_reading: ContextVar[bool] = ContextVar("reading", default=False)
# nibabel reports header repairs on standard error; a filter per context is quiet for this thread's reading alone.
imageglobals.logger.addFilter(lambda record: not _reading.get())


def _is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip data do, whatever follows."""
    with open(path, "rb") as file:
        return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Turn what nibabel and zlib raise on a bad file into one line, without text from the header."""
    token = _reading.set(True)
    try:
        yield
    except InputError:
        raise
    except tuple(kind for kinds in _CAUSES for kind in kinds) as error:
        cause = next(said for kinds, said in _CAUSES.items() if isinstance(error, kinds))
        # For gzip data: a wrong checksum or length, or bytes behind the end.
        if isinstance(error, gzip.BadGzipFile) and not _is_gzip(path):
            cause = "not gzip data; rename it to .nii if it is not compressed"
        raise InputError(f"{path}: {cause}") from error
    finally:
        _reading.reset(token)


def _check_kind(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind == "c":
        raise InputError(f"{path}: complex voxels; save magnitude (and phase) as separate real images")
    if dtype.kind not in "iufb":
        raise InputError(f"{path}: colour (RGB) voxels; convert to one grey value per voxel")
    if len(shape) not in (N_AXES, N_AXES + 1):
        raise InputError(f"{path}: {len(shape)}D image of shape {shape}; need a 3D or 4D volume")
    if min(shape) < 1:
        raise InputError(f"{path}: shape {shape} holds no voxels; export or download it again")


def _holds(path: Path, n_bytes: int) -> bool:
    """Count decompressed bytes, keeping none, until there are enough."""
    return sum(map(len, _decompressed(path, 0, n_bytes))) == n_bytes


def _decompressed(path: Path, offset: int, n_bytes: int) -> Iterator[bytes]:
    """So many bytes of a .gz file, in chunks; fewer where it ends before."""
    with gzip.open(path, "rb") as file:
        file.seek(offset)
        while n_bytes > 0 and (chunk := file.read(min(n_bytes, _CHUNK_BYTES))):
            n_bytes -= len(chunk)
            yield chunk
        if n_bytes == 0:
            file.read(1)  # the checksum is compared at the end of the data


def unpack(info: VolumeInfo) -> Iterator[bytes]:
    """The voxels of a .nii.gz file as they are stored, in chunks.

    Raises:
        InputError: damaged or truncated data.
    """
    assert info.place is not None
    missing = math.prod(info.shape) * info.dtype.itemsize
    with errors_named(info.path):
        for chunk in _decompressed(info.path, info.place.offset, missing):
            missing -= len(chunk)
            yield chunk
        if missing:
            raise EOFError


def _check_length(path: Path, n_bytes: int) -> None:
    """Refuse a header that claims more than the file holds, before memory is asked for."""
    ratio = n_bytes / path.stat().st_size
    is_packed = path.name.lower().endswith(".gz")
    if ratio > (MAX_DEFLATE_RATIO if is_packed else 1) or (ratio > _USUAL_DEFLATE_RATIO and not _holds(path, n_bytes)):
        raise too_short(path, n_bytes)


def grid_of(path: Path, shape: tuple[int, ...], image: nib.Nifti1Image) -> Grid:
    """Where the voxels lie, in mm; an affine that cannot be is an InputError about the path."""
    affine = np.array(image.affine, dtype=np.float64)
    affine[:N_AXES] *= _MM_PER_UNIT.get(int(image.header["xyzt_units"]) & 0b111, 1.0)
    try:
        return Grid(shape[:N_AXES], affine)
    except InputError as error:
        raise InputError(f"{path}: {error}; correct sform or qform (nibabel set_sform)") from None


def read_header(path: Path) -> VolumeInfo:
    """Read and check the header of an existing .nii or .nii.gz file; raises as `read_info`."""
    is_packed = path.name.lower().endswith(".gz")
    with errors_named(path):
        if is_packed:
            _holds(path, _SNIFFED_BYTES)  # nibabel would call damaged gzip data a wrong file type
        # No memory map: the file may be replaced while its voxels are in use.
        image = nib.load(path, mmap=False)
        if not isinstance(image, nib.Nifti1Image):
            raise InputError(f"{path}: not a single-file NIfTI image; convert it to .nii or .nii.gz")
        shape = tuple(int(n) for n in image.shape)
        while len(shape) > N_AXES and shape[-1] == 1:
            shape = shape[:-1]
        dtype = image.get_data_dtype().newbyteorder("=")
        _check_kind(path, shape, dtype)
        stored = cast(ArrayProxy, image.dataobj)
        _check_length(path, stored.offset + math.prod(shape) * dtype.itemsize)
        time_step = float(image.header["pixdim"][4])
        return VolumeInfo(
            path=path,
            grid=grid_of(path, shape, image),
            n_times=shape[N_AXES] if len(shape) > N_AXES else None,
            dtype=dtype,
            slope=float(stored.slope),
            inter=float(stored.inter),
            header=image.header.copy(),
            time_step=time_step if math.isfinite(time_step) and time_step > 0 else None,
            place=Place(is_packed, int(stored.offset), stored.dtype),
        )


def _xform_codes(like: VolumeInfo | None) -> tuple[int, int]:
    """Choose (qform_code, sform_code): the source's, where they are true of the affine that is written."""
    if like is None or like.header is None:
        return _SCANNER, _SCANNER
    qform, sform = (
        int(like.header[name]) if 0 < int(like.header[name]) <= 5 else 0 for name in ("qform_code", "sform_code")
    )
    if qform and sform:
        try:
            grids = [Grid(like.grid.shape, affine) for affine in (like.header.get_qform(), like.header.get_sform())]
            agree = corner_error_mm(grids[0], grids[1]) < 0.1 * min(grids[1].spacing_mm)
        except (ValueError, HeaderDataError):
            agree = False
        # The grid comes from the sform. A qform into another space (scanner beside template) is gone.
        qform = qform if agree else sform
    known = sform or qform or _SCANNER
    return qform or known, known


def _stored_quaternion(bcd: np.ndarray) -> np.ndarray:
    """Choose the float32 numbers (3,) from which a reader gets closest to a rotation's b, c, d (3,) and its a.

    A reader computes a = sqrt(1 - b^2 - c^2 - d^2), which near half turns (any oblique scan in LPS order) turns plain
    rounding into as much as a quarter of a millimetre. So the largest component is rounded, both ways, and the other
    two, whose float32 numbers lie denser, are stretched so that the error falls on all of them alike.
    """
    a = math.sqrt(max(0.0, 1 - float(bcd @ bcd)))
    largest = int(np.abs(bcd).argmax())
    rounded = bcd.astype(np.float32)
    candidates = [rounded.astype(np.float64)]
    for step in range(-2, 3):
        kept = float(np.float32(rounded[largest] + step * np.spacing(rounded[largest])))
        if abs(kept) < 1 and abs(bcd[largest]) < 1:
            stretched = bcd * math.sqrt((1 - kept**2) / (1 - bcd[largest] ** 2))
            stretched[largest] = kept
            candidates.append(stretched.astype(np.float32).astype(np.float64))
    errors = [max(np.abs(c - bcd).max(), abs(math.sqrt(max(0.0, 1 - float(c @ c))) - a)) for c in candidates]
    return candidates[int(np.argmin(errors))]


def _set_forms(header: Nifti1Header, grid: Grid, qform_code: int, sform_code: int) -> None:
    """Set the sform, and the qform if it can hold the grid; else mark the qform as absent."""
    header.set_sform(grid.affine, sform_code)
    exact = nib.Nifti2Header()  # its quaternion is float64
    exact.set_qform(grid.affine)
    bcd = np.array([float(exact[f"quatern_{name}"]) for name in "bcd"])
    header.set_qform(grid.affine, qform_code)
    for name, value in zip("bcd", _stored_quaternion(bcd), strict=True):
        header[f"quatern_{name}"] = value
    tolerance_mm = _QFORM_TOLERANCE_MM if sform_code == _SCANNER else _PREFERRED_QFORM_TOLERANCE_MM
    tolerance_mm = min(tolerance_mm, 0.01 * min(grid.spacing_mm))
    if corner_error_mm(Grid(grid.shape, header.get_qform()), grid) > tolerance_mm:
        header["qform_code"] = 0  # sheared, or within the rounding of a half turn: the sform alone says where it lies


def _copy_true_fields(header: Nifti1Header, grid: Grid, like: VolumeInfo, data_range: tuple[float, float]) -> None:
    """Take over what stays true of the source; its extensions, which may describe its grid, are dropped."""
    source = like.header
    if source is None:
        return
    for name in ("descrip", "aux_file", "toffset"):
        header[name] = source[name]
    if int(source["intent_code"]) in _KEPT_INTENTS:
        for name in ("intent_code", "intent_name", "intent_p1", "intent_p2", "intent_p3"):
            header[name] = source[name]
    low, high = float(source["cal_min"]), float(source["cal_max"])
    if math.isfinite(low) and math.isfinite(high) and low < high and low < data_range[1] and high > data_range[0]:
        header["cal_min"], header["cal_max"] = low, high
    header["xyzt_units"] = _MM | (int(source["xyzt_units"]) & _TIME_UNIT_BITS)
    slice_axis = (int(source["dim_info"]) >> 4) & 0b11
    slice_axis = slice_axis - 1 if slice_axis else N_AXES - 1
    cosines = [g.affine[:N_AXES, :N_AXES] / g.spacing_mm for g in (grid, like.grid)]
    same_slices = grid.shape[slice_axis] == like.grid.shape[slice_axis] and np.allclose(
        cosines[0], cosines[1], atol=1e-3
    )
    if same_slices:
        for name in ("dim_info", "slice_start", "slice_end", "slice_code", "slice_duration"):
            header[name] = source[name]


def file_header(
    info: VolumeInfo, like: VolumeInfo | None, data_range: tuple[float, float], is_approximate: bool
) -> bytes:
    """All that stands before the voxels of a new file.

    Args:
        info: what to say; no side past `MAX_SIDE`.
        like: the source, for the header fields that stay true.
        data_range: least and largest intensity: the source's display range is kept where it overlaps.
        is_approximate: begin the description with that word.
    """
    header = Nifti1Header()
    header.set_data_shape(info.shape)
    header.set_data_dtype(info.dtype)
    header.set_xyzt_units("mm")
    _set_forms(header, info.grid, *_xform_codes(like))
    if like is not None:
        _copy_true_fields(header, info.grid, like, data_range)
    if info.time_step is not None:
        header["pixdim"][4] = info.time_step
    if is_approximate:
        described = bytes(header["descrip"].item())
        header["descrip"] = b"; ".join([b"approximate", *([described] if described else [])])[:_DESCRIPTION_BYTES]
    # The image's own copy of the header, as it will be written, starts without a scaling.
    image = nib.Nifti1Image(np.broadcast_to(np.zeros((), info.dtype), info.shape), None, header)
    image.header.set_slope_inter(info.slope, info.inter)
    image.update_header()
    image.header.set_data_offset(image.header.single_vox_offset)
    buffer = io.BytesIO()
    image.header.write_to(buffer)
    return buffer.getvalue().ljust(image.header.single_vox_offset, b"\0")
