"""What is on disk is read as it is, or one line says why it cannot be."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from volume_files import nifti_file, noise

from medsr_monai.system.errors import InputError
from medsr_monai.volumes import read_info, read_volume


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64", ">i2", ">f8"]
)
def test_every_type_is_read_as_float32(dtype: str, tmp_path: Path) -> None:
    data = np.arange(60).reshape(3, 4, 5).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(data, np.eye(4), header, dtype=dtype), tmp_path / "x.nii.gz")
    volume = read_volume(tmp_path / "x.nii.gz")
    assert volume.data.dtype == np.float32 and volume.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(volume.data, data.astype(np.float32))
    if not dtype.startswith(">"):
        sitk.WriteImage(sitk.GetImageFromArray(data.T), str(tmp_path / "x.nrrd"))
        np.testing.assert_array_equal(read_volume(tmp_path / "x.nrrd").data, data)
        assert read_info(tmp_path / "x.nrrd").dtype == dtype


def test_a_trailing_single_time_point_is_dropped(tmp_path: Path) -> None:
    assert read_volume(nifti_file(tmp_path / "x.nii", noise((4, 3, 1, 1)))).data.shape == (4, 3, 1)
    assert read_volume(nifti_file(tmp_path / "y.nii", noise((4, 3, 2, 1, 1)))).data.shape == (4, 3, 2)
    image = sitk.GetImageFromArray(noise((1, 3, 4, 5)), isVector=False)
    sitk.WriteImage(image, str(tmp_path / "x.mha"))
    assert read_volume(tmp_path / "x.mha").data.shape == (5, 4, 3)


def truncated(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def with_bad_checksum(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF  # gzip ends with the CRC and the length, four bytes each
    path.write_bytes(content)
    return path


def with_bad_voxels(path: Path) -> Path:
    data = noise((6, 5, 4))
    data[0, :4, :3], data[1, 0, :3] = np.nan, (np.inf, -np.inf, np.inf)
    return nifti_file(path, data)


def itk_file(path: Path, image: sitk.Image | None = None) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(noise((6, 5, 4))) if image is None else image, str(path))
    return path


def patched(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


def claiming(path: Path, dims: tuple[int, ...], tail: bytes = b"") -> Path:
    """Write a bare NIfTI header that claims a size, with a tail instead of the voxels."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float64)
    content = bytearray(header.binaryblock)
    content[40:56] = struct.pack("<8h", len(dims), *dims, *[1] * (7 - len(dims)))
    content[108:112], content[344:348] = struct.pack("<f", 352), b"n+1\0"
    raw = bytes(content) + b"\0" * 4 + tail
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def text(path: Path, content: str = "no image\n") -> Path:
    path.write_text(content)
    return path


def rgb(path: Path) -> Path:
    data = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def ungzipped(path: Path) -> Path:
    content = nifti_file(path.with_name("plain.nii")).read_bytes()
    path.write_bytes(content)
    return path


RGB_IMAGE = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True)
BAD_FILES: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    "missing": ("x.nii.gz", lambda p: p, "no such file"),
    "folder": ("x.nii", folder, "a folder"),
    "empty": ("x.nii.gz", lambda p: text(p, ""), "empty file"),
    "empty mha": ("x.mha", lambda p: text(p, ""), "empty file"),
    "truncated": ("x.nii", lambda p: truncated(nifti_file(p), 0.7), "truncated"),
    "truncated by a byte": ("x.nii", lambda p: truncated(nifti_file(p), 0.999), "truncated"),
    "truncated header": ("x.nii", lambda p: truncated(nifti_file(p), 0.2), "not a valid NIfTI file"),
    "truncated gz": ("x.nii.gz", lambda p: truncated(nifti_file(p), 0.7), "truncated"),
    "truncated gz header": ("x.nii.gz", lambda p: truncated(nifti_file(p), 0.02), "x.nii.gz"),
    "not gzip": ("x.nii.gz", ungzipped, "not gzip"),
    "damaged gz checksum": ("x.nii.gz", lambda p: with_bad_checksum(nifti_file(p)), "damaged gzip data"),
    "text": ("x.nii", text, "not a valid NIfTI file"),
    "long text": ("x.nii", lambda p: text(p, "no image\n" * 500), "not a valid NIfTI file"),
    "text gz": ("x.nii.gz", text, "not gzip"),
    "unknown suffix": ("x.png", text, ".nii, .nii.gz, .mha, .mhd, .nrrd"),
    "not finite": ("x.nii.gz", with_bad_voxels, "12 NaN and 3 Inf voxels; replace them first (e.g. numpy.nan_to_num)"),
    "too large": ("x.nii", lambda p: nifti_file(p, noise((3, 4, 5)) + np.float64(1e300)), "60 Inf"),
    "constant": ("x.nii.gz", lambda p: nifti_file(p, np.ones((3, 4, 5), np.float32)), "constant image"),
    "RGB": ("x.nii", rgb, "RGB"),
    "complex": ("x.nii", lambda p: nifti_file(p, noise((3, 4, 5)) + np.complex64(1j)), "complex"),
    "2D": ("x.nii", lambda p: nifti_file(p, noise((3, 4))), "2D image"),
    "5D": ("x.nii", lambda p: nifti_file(p, noise((3, 4, 5, 1, 2))), "5D image"),
    "absurd size": ("x.nii", lambda p: claiming(p, (30000, 30000, 3000)), "it claims 21600000000352 bytes"),
    "absurd size gz": ("x.nii.gz", lambda p: claiming(p, (30000, 30000, 3000)), "truncated, or a wrong header"),
    "zeros gz": (
        "x.nii.gz",
        lambda p: claiming(p, (2000, 2000, 1), b"\0" * 31_000_000),
        "truncated, or a wrong header",
    ),
    "no voxels": ("x.nii", lambda p: claiming(p, (0, 4, 4)), "x.nii"),
    "negative side": ("x.nii", lambda p: claiming(p, (4, -4, 4)), "x.nii"),
    "singular": ("x.nii", lambda p: nifti_file(p, sform_code=1, srow_x=[0] * 4), "inverted"),
    "affine NaN": ("x.nii", lambda p: nifti_file(p, sform_code=1, srow_y=[np.nan] * 4), "NaN"),
    "mha truncated": ("x.mha", lambda p: truncated(itk_file(p), 0.98), "truncated"),
    "mha text": ("x.mha", text, "not a valid .mha file"),
    "mha RGB": ("x.mha", lambda p: itk_file(p, RGB_IMAGE), "3 values per voxel"),
    "mha 2D": ("x.mha", lambda p: itk_file(p, sitk.GetImageFromArray(noise((3, 4)))), "2D image"),
    "mha absurd": ("x.mha", lambda p: patched(itk_file(p), b"DimSize = 4 5", b"DimSize = 40000 50000"), "truncated"),
    "mha singular": (
        "x.mha",
        lambda p: patched(itk_file(p), b"TransformMatrix = 1 0 0", b"TransformMatrix = 0 0 0"),
        "inverted",
    ),
    "nrrd text": ("x.nrrd", text, "not a valid .nrrd file"),
    "nrrd truncated": ("x.nrrd", lambda p: truncated(itk_file(p), 0.9), "truncated"),
    "nrrd RGB": ("x.nrrd", lambda p: itk_file(p, RGB_IMAGE), "3 values per voxel"),
    "nrrd constant": ("x.nrrd", lambda p: itk_file(p, sitk.Image(3, 4, 5, sitk.sitkInt16)), "constant image"),
    "mhd without data": ("x.mhd", lambda p: (itk_file(p), p.with_suffix(".raw").unlink())[0], "x.raw is missing"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_give_one_line(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name, make, cause = BAD_FILES[case]
    path = make(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    capfd.readouterr()
    with pytest.raises(InputError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and cause in message
    assert "\n" not in message
    # What is printed may hold header text, and no output appears beside the input.
    assert capfd.readouterr() == ("", "")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_forbidden_file(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x.nii")
    path.chmod(0)
    with pytest.raises(InputError, match="permission"):
        read_volume(path)


def test_a_forbidden_file_for_root_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nifti_file(tmp_path / "x.nii")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputError, match=r"x\.nii: cannot be opened \(Permission denied\); check its permissions"):
        read_volume(path)


def test_a_constant_mask_can_be_asked_for(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x.nii", np.ones((3, 4, 5), np.uint8))
    assert read_volume(path, allow_constant=True).data.max() == 1
