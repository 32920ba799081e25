"""MetaImage and NRRD files through SimpleITK, whose world is LPS where ours is RAS."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.geometry import N_AXES, Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.nifti import MAX_DEFLATE_RATIO
from medsr_monai.volumes.volume import Place, VolumeInfo, too_short

# As OME-Zarr has it; NIfTI, which has no fields of one's own, begins its description with the word.
_APPROXIMATE = ("approximate", "true")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_BZIP2_RATIO = 50_000
_HEADER_BYTES = 1 << 16
_NEEDED = {".nrrd": ("dimension", "sizes", "type"), ".mha": ("dimsize", "elementtype", "ndims")}
_DTYPES = {"signed integer": "int", "unsigned integer": "uint", "float": "float"}


@dataclass(frozen=True)
class _Layout:
    """What a header says of its voxels."""

    header_bytes: int  # its own length
    data_file: str  # where they are; "" for behind it
    most: int  # bytes that one byte on disk may be
    is_raw: bool  # whether they are neither packed nor written as text, and nothing stands before them
    is_big: bool  # whether their byte order is big-endian


def _layout(path: Path) -> _Layout:
    """Parse "key: value" (NRRD) or "key = value" (MetaImage).

    What is no such file at all is refused here: the libraries would print lines of their own about it.
    """
    with open(path, "rb") as file:
        lines = file.read(_HEADER_BYTES).decode("latin-1").splitlines(keepends=True)
    said: dict[str, str] = {}
    suffix = path.suffix.lower()
    is_nrrd = suffix == ".nrrd"
    n_bytes = 0
    for line in lines:
        key, found, value = line.partition(":" if is_nrrd else "=")
        n_bytes += len(line)
        if found:
            said[key.strip().lower()] = value.strip()
        if not line.strip() if is_nrrd else key.strip().lower() == "elementdatafile":
            break
    for key in _NEEDED[".nrrd" if is_nrrd else ".mha"]:
        if key not in said:
            raise InputError(f"{path}: not a valid {suffix} file (no {key} in its header); export it again")
    lower = {key: value.lower() for key, value in said.items()}
    if is_nrrd:
        encoding = lower.get("encoding", "raw")
        most = {"raw": 1, "gzip": MAX_DEFLATE_RATIO, "gz": MAX_DEFLATE_RATIO, "bzip2": _MAX_BZIP2_RATIO}
        is_raw = encoding == "raw" and not {"byte skip", "byteskip", "line skip", "lineskip"} & said.keys()
        data_file = said.get("data file", said.get("datafile", ""))
        return _Layout(n_bytes, data_file, most.get(encoding, 8), is_raw, lower.get("endian") == "big")
    data_file = said.get("elementdatafile", "LOCAL")
    packed = lower.get("compresseddata", "false")
    is_plain = packed in ("false", "0") and lower.get("binarydata", "true") in ("true", "1")
    return _Layout(
        header_bytes=n_bytes,
        data_file="" if data_file.upper() == "LOCAL" else data_file,
        most=MAX_DEFLATE_RATIO if packed in ("true", "1") else 1,
        is_raw=is_plain and not said.get("headersize"),
        is_big="true" in (lower.get("binarydatabyteordermsb"), lower.get("elementbyteordermsb")),
    )


def _check_length(path: Path, layout: _Layout, n_bytes: int) -> None:
    """Refuse a header that claims more than its file can hold, before SimpleITK asks for memory."""
    name = layout.data_file
    if " " in name or "%" in name or name.upper().startswith("LIST"):
        return  # one file per slice, each checked by SimpleITK
    holder = path.parent / name if name else path
    if not holder.is_file():
        raise InputError(f"{path}: its data file {name} is missing; keep the two in one folder")
    if n_bytes > (holder.stat().st_size - (0 if name else layout.header_bytes)) * layout.most:
        raise too_short(path, n_bytes)


def _dtype(path: Path, reader: Any) -> np.dtype:
    import SimpleITK as sitk

    name, n = sitk.GetPixelIDValueAsString(reader.GetPixelID()), reader.GetNumberOfComponents()
    if "complex" in name:
        raise InputError(f"{path}: complex voxels; save magnitude (and phase) as separate real images")
    if n > 1:
        raise InputError(f"{path}: {n} values per voxel (RGB or vector); convert to one grey value, or to a 4D volume")
    known = re.fullmatch(rf"(\d+)-bit ({'|'.join(_DTYPES)})", name)
    if known is None:
        raise InputError(f"{path}: voxels of an unsupported type; convert to float32")
    return np.dtype(f"{_DTYPES[known[2]]}{known[1]}")


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


def read_header(path: Path) -> VolumeInfo:
    """Read and check the header of an existing .mha, .mhd or .nrrd file; raises as `read_info`."""
    return _opened(path)[0]


def _opened(path: Path) -> tuple[VolumeInfo, Any]:
    import SimpleITK as sitk

    layout = _layout(path)
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
    dtype = _dtype(path, reader)
    n_bytes = math.prod(shape) * dtype.itemsize
    _check_length(path, layout, n_bytes)
    # Where the arithmetic does not come out, SimpleITK knows better.
    is_raw = layout.is_raw and not layout.data_file and path.stat().st_size == layout.header_bytes + n_bytes
    is_series = len(shape) > N_AXES and shape[N_AXES] > 1
    info = VolumeInfo(
        path=path,
        grid=_grid(path, reader),
        n_times=shape[N_AXES] if is_series else None,
        dtype=dtype,
        time_step=float(reader.GetSpacing()[N_AXES]) if is_series else None,
        place=Place(False, layout.header_bytes, dtype.newbyteorder(">" if layout.is_big else "<"))
        if is_raw
        else Place(True, 0, dtype),
    )
    return info, reader


def unpack(info: VolumeInfo) -> Iterator[memoryview]:
    """The voxels of a file, however they are stored: all at once, in native byte order.

    Raises:
        InputError: see `read_volume`.
    """
    import SimpleITK as sitk

    reader = _opened(info.path)[1]
    try:
        image = reader.Execute()  # in another type, perhaps
        yield np.ascontiguousarray(sitk.GetArrayViewFromImage(image), info.dtype).data.cast("B")
    except RuntimeError as error:
        raise InputError(f"{info.path}: truncated or damaged data; copy or download it again") from error
    except MemoryError as error:
        raise InputError(f"{info.path}: does not fit into memory; crop it or use a machine with more") from error


def file_header(info: VolumeInfo, is_approximate: bool) -> bytes:
    """What stands before the voxels of a new, uncompressed .mha or .nrrd file, with nothing but the grid in it.

    Args:
        info: what to say.
        is_approximate: say so in a field of its own: `approximate`, which is `true`.
    """
    import SimpleITK as sitk

    n_dims, suffix = len(info.shape), info.path.suffix.lower()
    affine, spacing_mm = _LPS_TO_RAS @ info.grid.affine, info.grid.spacing_mm
    direction = np.eye(n_dims)
    direction[:N_AXES, :N_AXES] = affine[:N_AXES, :N_AXES] / spacing_mm
    voxel = sitk.GetImageFromArray(np.zeros((1,) * n_dims, info.dtype), isVector=False)
    voxel.SetSpacing([*spacing_mm, info.time_step or 1.0][:n_dims])
    voxel.SetOrigin([*affine[:N_AXES, N_AXES].tolist(), 0.0][:n_dims])
    voxel.SetDirection(direction.ravel().tolist())
    if is_approximate:
        voxel.SetMetaData(*_APPROXIMATE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"one{suffix}"
        sitk.WriteImage(voxel, str(path), useCompression=False)
        header = path.read_bytes()[: -info.dtype.itemsize]
    # The library writes the header of an image of one voxel; its size is the one line that differs.
    key = b"sizes: " if suffix == ".nrrd" else b"DimSize = "
    before, found, after = header.partition(b"\n" + key)
    if not found:
        raise RuntimeError(f"SimpleITK wrote a {suffix} header without '{key.decode()}'")
    return before + found + " ".join(map(str, info.shape)).encode() + after[after.index(b"\n") :]
