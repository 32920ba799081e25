"""MetaImage and NRRD files through SimpleITK, whose world is LPS where ours is RAS."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.geometry import N_AXES, Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.nifti import MAX_DEFLATE_RATIO
from medsr_monai.volumes.volume import VolumeInfo

# As OME-Zarr has it; NIfTI, which has no fields of one's own, begins its description with the word.
_APPROXIMATE = ("approximate", "true")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_BZIP2_RATIO = 50_000
_HEADER_BYTES = 1 << 16


def _simpleitk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise InputError(
            "SimpleITK is not installed: .mha, .mhd and .nrrd need it; pip install SimpleITK, or use .nii.gz"
        ) from error
    return SimpleITK


def _header_fields(path: Path) -> tuple[dict[str, str], int]:
    """Parse "key: value" (NRRD) or "key = value" (MetaImage), keys in lower case; and find where the header ends."""
    with open(path, "rb") as file:
        lines = file.read(_HEADER_BYTES).decode("latin-1").splitlines(keepends=True)
    parsed: dict[str, str] = {}
    is_nrrd = path.suffix.lower() == ".nrrd"
    n_bytes = 0
    for line in lines:
        key, found, value = line.partition(":" if is_nrrd else "=")
        n_bytes += len(line)
        if found:
            parsed[key.strip().lower()] = value.strip()
        if not line.strip() if is_nrrd else key.strip().lower() == "elementdatafile":
            break
    return parsed, n_bytes


def _check_header(path: Path) -> None:
    """Refuse what is no such file at all, about which the libraries would print lines of their own."""
    parsed, _ = _header_fields(path)
    needed = {"type", "dimension", "sizes"} if path.suffix.lower() == ".nrrd" else {"ndims", "dimsize", "elementtype"}
    missing = sorted(needed - parsed.keys())
    if missing:
        raise InputError(
            f"{path}: not a valid {path.suffix.lower()} file (no {missing[0]} in its header); export it again"
        )


def _check_length(path: Path, n_bytes: int) -> None:
    """Refuse a header that claims more than its file can hold, before SimpleITK asks for memory."""
    parsed, header_bytes = _header_fields(path)
    if path.suffix.lower() == ".nrrd":
        encoding = parsed.get("encoding", "raw").lower()
        data_file = parsed.get("data file", parsed.get("datafile", ""))
        ratio = {"raw": 1, "gzip": MAX_DEFLATE_RATIO, "gz": MAX_DEFLATE_RATIO, "bzip2": _MAX_BZIP2_RATIO}.get(
            encoding, 8
        )
    else:
        data_file = parsed.get("elementdatafile", "LOCAL")
        data_file = "" if data_file.upper() == "LOCAL" else data_file
        ratio = MAX_DEFLATE_RATIO if parsed.get("compresseddata", "").lower() in ("true", "1") else 1
    if " " in data_file or "%" in data_file or data_file.upper().startswith("LIST"):
        return  # one file per slice, each checked by SimpleITK
    holder = path.parent / data_file if data_file else path
    if not holder.is_file():
        raise InputError(f"{path}: its data file {data_file} is missing; keep the two in one folder")
    if n_bytes > (holder.stat().st_size - (0 if data_file else header_bytes)) * ratio:
        raise InputError(
            f"{path}: truncated, or a wrong header: it claims {n_bytes} bytes, and the file holds fewer; "
            "copy or download it again"
        )


def _dtype(path: Path, reader: Any, sitk: Any) -> np.dtype:
    name = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in name:
        raise InputError(f"{path}: complex voxels; save magnitude (and phase) as separate real images")
    if reader.GetNumberOfComponents() > 1:
        n = reader.GetNumberOfComponents()
        raise InputError(f"{path}: {n} values per voxel (RGB or vector); convert to one grey value, or to a 4D volume")
    names = {
        f"{bits}-bit {sign} integer": f"{short}{bits}"
        for bits in (8, 16, 32, 64)
        for sign, short in (("signed", "int"), ("unsigned", "uint"))
    }
    names |= {"32-bit float": "float32", "64-bit float": "float64"}
    if name not in names:
        raise InputError(f"{path}: voxels of an unsupported type; convert to float32")
    return np.dtype(names[name])


def _grid(path: Path, reader: Any) -> Grid:
    n_dims = reader.GetDimension()
    direction = np.array(reader.GetDirection()).reshape(n_dims, n_dims)
    if n_dims > N_AXES and (direction[N_AXES, :N_AXES].any() or direction[:N_AXES, N_AXES].any()):
        raise InputError(f"{path}: its time axis has a direction in space; export it again")
    affine = np.eye(N_AXES + 1)
    affine[:N_AXES, :N_AXES] = direction[:N_AXES, :N_AXES] * reader.GetSpacing()[:N_AXES]
    affine[:N_AXES, N_AXES] = reader.GetOrigin()[:N_AXES]
    try:
        return Grid(reader.GetSize()[:N_AXES], _LPS_TO_RAS @ affine)
    except InputError as error:
        raise InputError(f"{path}: {error}; correct direction or spacing") from None


def open_itk(path: Path) -> tuple[VolumeInfo, Any]:
    """Read and check the header of a MetaImage or NRRD file.

    Args:
        path: an existing .mha, .mhd or .nrrd file.

    Returns:
        What it says, and the SimpleITK reader, whose voxels are still on disk.

    Raises:
        InputError: see `read_info`.
    """
    sitk = _simpleitk()
    _check_header(path)
    reader = sitk.ImageFileReader()
    try:
        reader.SetFileName(str(path))
        reader.SetImageIO("NrrdImageIO" if path.suffix.lower() == ".nrrd" else "MetaImageIO")
        reader.ReadImageInformation()
    except RuntimeError as error:
        # SimpleITK's own text has many lines and may quote the header.
        cause = "an affine that cannot be inverted" if "determinant" in str(error) else "bad header"
        raise InputError(f"{path}: not a valid {path.suffix.lower()} file ({cause}); export it again") from error
    shape = tuple(int(n) for n in reader.GetSize())
    if len(shape) not in (N_AXES, N_AXES + 1):
        raise InputError(f"{path}: {len(shape)}D image of shape {shape}; need a 3D or 4D volume")
    dtype = _dtype(path, reader, sitk)
    _check_length(path, math.prod(shape) * dtype.itemsize)
    is_series = len(shape) > N_AXES and shape[N_AXES] > 1
    info = VolumeInfo(
        path=path,
        grid=_grid(path, reader),
        n_times=shape[N_AXES] if is_series else None,
        dtype=dtype,
        time_step=float(reader.GetSpacing()[N_AXES]) if is_series else None,
    )
    return info, reader


def find_raw_voxels(path: Path, info: VolumeInfo) -> tuple[int, np.dtype] | None:
    """Find uncompressed voxels that follow the header in the same file.

    Args:
        path: an existing .mha, .mhd or .nrrd file.
        info: what its header says.

    Returns:
        Where they start, in bytes, and their type in the file's byte order; None if they are stored otherwise.
    """
    parsed, header_bytes = _header_fields(path)
    if path.suffix.lower() == ".nrrd":
        is_raw = parsed.get("encoding", "").lower() == "raw" and not {"data file", "datafile"} & parsed.keys()
        is_raw = is_raw and not {"byte skip", "byteskip", "line skip", "lineskip"} & parsed.keys()
        is_big = parsed.get("endian", "").lower() == "big"
    else:
        is_raw = parsed.get("elementdatafile", "").upper() == "LOCAL" and not parsed.get("headersize", "")
        is_raw = is_raw and parsed.get("compresseddata", "false").lower() in ("false", "0")
        is_raw = is_raw and parsed.get("binarydata", "true").lower() in ("true", "1")
        is_big = "true" in (
            parsed.get("binarydatabyteordermsb", "").lower(),
            parsed.get("elementbyteordermsb", "").lower(),
        )
    # Where the arithmetic does not come out, SimpleITK knows better.
    if not is_raw or path.stat().st_size != header_bytes + math.prod(info.shape) * info.dtype.itemsize:
        return None
    return header_bytes, info.dtype.newbyteorder(">" if is_big else "<")


def read_itk(path: Path, dtype: np.dtype) -> np.ndarray:
    """Read the voxels of a MetaImage or NRRD file.

    Args:
        path: an existing .mha, .mhd or .nrrd file, checked by `open_itk`.
        dtype: of the voxels, which the library may give in another one.

    Returns:
        (X, Y, Z) or (X, Y, Z, T).

    Raises:
        InputError: see `read_volume`.
    """
    info, reader = open_itk(path)
    sitk = _simpleitk()
    try:
        data = sitk.GetArrayViewFromImage(reader.Execute()).astype(dtype).transpose()
    except RuntimeError as error:
        raise InputError(f"{path}: truncated or damaged data; copy or download it again") from error
    except MemoryError as error:
        raise InputError(f"{path}: does not fit into memory; crop it or use a machine with more") from error
    return data.reshape(info.shape, order="F")


def _described(image: Any, grid: Grid, time_step: float | None, is_approximate: bool) -> Any:
    """Give a SimpleITK image its place in the world, and a field that says what it is."""
    affine = _LPS_TO_RAS @ grid.affine
    n_dims = image.GetDimension()
    direction, spacing, origin = np.eye(n_dims), np.ones(n_dims), np.zeros(n_dims)
    spacing[:N_AXES] = grid.spacing_mm
    spacing[N_AXES:] = time_step or 1.0
    direction[:N_AXES, :N_AXES] = affine[:N_AXES, :N_AXES] / spacing[:N_AXES]
    origin[:N_AXES] = affine[:N_AXES, N_AXES]
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    image.SetDirection(direction.ravel().tolist())
    if is_approximate:
        image.SetMetaData(*_APPROXIMATE)
    return image


def itk_header(
    suffix: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    grid: Grid,
    time_step: float | None,
    is_approximate: bool = False,
) -> bytes:
    """What stands before the voxels of an uncompressed file, with nothing but the grid and that mark in it.

    Args:
        suffix: .mha or .nrrd.
        shape: (X, Y, Z) or (X, Y, Z, T).
        dtype: of the numbers that will follow, in native byte order.
        grid: where the voxels lie.
        time_step: spacing of the fourth axis.
        is_approximate: say so in a field of its own: `approximate`, which is `true`.
    """
    sitk = _simpleitk()
    voxel = sitk.GetImageFromArray(np.zeros((1,) * len(shape), dtype), isVector=False)
    one = _described(voxel, grid, time_step, is_approximate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"one{suffix}"
        sitk.WriteImage(one, str(path), useCompression=False)
        header = path.read_bytes()[: -dtype.itemsize]
    # The library writes the header of an image of one voxel; its size is the one line that differs.
    key = b"sizes: " if suffix == ".nrrd" else b"DimSize = "
    before, found, after = header.partition(b"\n" + key)
    if not found:
        raise RuntimeError(f"SimpleITK wrote a {suffix} header without '{key.decode()}'")
    size = " ".join(str(n) for n in shape).encode()
    return before + found + size + after[after.index(b"\n") :]
