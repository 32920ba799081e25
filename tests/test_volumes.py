"""Volumes keep their voxels and their place on disk; bad files give one line; no output is ever half written."""

from __future__ import annotations

import gzip
import itertools
import os
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose
from scipy.spatial.transform import Rotation

from medsr_monai.errors import InputError
from medsr_monai.geometry import Grid, corner_error_mm, parse_orientation
from medsr_monai.volumes import (
    LoadVolumed,
    SaveVolumed,
    find_volumes,
    itk_image,
    nifti,
    read_info,
    read_volume,
    volume_stem,
    write_volume,
)

AXCODES = ["".join(c) for order in itertools.permutations(("LR", "PA", "IS")) for c in itertools.product(*order)]
CORNER_TOLERANCE_MM = 1e-3
SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")


def oblique_grid(axcodes: str, shape: tuple[int, ...], degrees: np.ndarray) -> Grid:
    order = np.zeros((3, 3))
    for axis, (target, flip) in enumerate(parse_orientation(axcodes).astype(int)):
        order[target, axis] = flip
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ order @ np.diag([0.7, 1 / 3, 4.9])
    affine[:3, 3] = (-211.37, 93.011, -512.7)
    return Grid(shape, affine)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def grid_by_nibabel(path: Path) -> Grid:
    image = nib.load(path)
    return Grid(image.shape[:3], image.affine)


def grid_by_simpleitk(path: Path) -> Grid:
    image = sitk.ReadImage(str(path))
    n = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (n, n))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return Grid(image.GetSize()[:3], np.diag([-1, -1, 1, 1]) @ affine)


def nifti_file(path: Path, data: np.ndarray | None = None, **fields: object) -> Path:
    """Save a NIfTI file with nibabel, and patch raw header fields."""
    image = nib.Nifti1Image(noise((6, 5, 4)) if data is None else data, np.diag([2.0, 2, 3, 1]))
    for name, value in fields.items():
        image.header[name] = value
    # Without an affine of its own, the image leaves the header as it is.
    nib.save(nib.Nifti1Image(image.dataobj, None, image.header), path)
    return path


# ---------------------------------------------------------------- where an image lies


@pytest.mark.parametrize("axcodes", AXCODES)
def test_upscaled_grids_survive_the_disk(axcodes: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(AXCODES.index(axcodes))
    for number, scale in enumerate([2, (1, 1, 4), (1.5, 2.3, 0.7), 3.3]):
        source = oblique_grid(axcodes, tuple(rng.choice([1, 3, 5, 8], 3)), rng.uniform(-12, 12, 3))
        grid = source.upscaled(scale)
        path = tmp_path / f"{number}{SUFFIXES[number]}"
        write_volume(path, noise(grid.shape), grid)
        assert corner_error_mm(read_volume(path, allow_constant=True).grid, source) < CORNER_TOLERANCE_MM
        assert corner_error_mm(grid_by_simpleitk(path), source) < CORNER_TOLERANCE_MM

        nii = tmp_path / "same.nii"
        write_volume(nii, noise(grid.shape), grid)
        assert corner_error_mm(grid_by_nibabel(nii), source) < CORNER_TOLERANCE_MM
        assert corner_error_mm(grid_by_simpleitk(nii), source) < CORNER_TOLERANCE_MM


@pytest.mark.parametrize("degrees", [1, 8, 30])
@pytest.mark.parametrize("code", [1, 4])
def test_qform_and_sform_agree(degrees: float, code: int, tmp_path: Path) -> None:
    """A plainly rounded quaternion misses by up to 0.3 mm here: close to half turns, a large field of view."""
    n_absent, n_files = 0, 30
    path = tmp_path / "x.nii"
    source = read_info(nifti_file(path, qform_code=code, sform_code=code))
    for number in range(n_files):
        angles = np.random.default_rng(number).uniform(-degrees, degrees, 3)
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * [-60, -60, 60]
        grid = Grid((4, 5, 3), affine)
        write_volume(path, noise(grid.shape), grid, like=source)
        header = nib.load(path).header
        assert int(header["sform_code"]) == code
        assert header.get_xyzt_units()[0] == "mm"
        np.testing.assert_allclose(header["pixdim"][1:4], 60, rtol=1e-6)
        if int(header["qform_code"]):
            assert int(header["qform_code"]) == code
            assert corner_error_mm(Grid(grid.shape, header.get_qform()), grid) < 5.1e-3
        else:
            n_absent += 1
        assert corner_error_mm(grid_by_nibabel(path), grid) < CORNER_TOLERANCE_MM
        assert corner_error_mm(grid_by_simpleitk(path), grid) < CORNER_TOLERANCE_MM
    # Of slightly tilted scans many have no qform that is exact enough for readers that prefer it.
    assert n_absent <= (n_files if degrees == 1 and code != 1 else 4)


def test_a_sheared_affine_goes_into_the_sform_alone(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.3
    grid = Grid((4, 5, 6), affine)
    for suffix in SUFFIXES:
        write_volume(tmp_path / f"x{suffix}", noise(grid.shape), grid)
        assert corner_error_mm(read_volume(tmp_path / f"x{suffix}").grid, grid) < CORNER_TOLERANCE_MM
    header = nib.load(tmp_path / "x.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)


def test_without_codes_the_spacing_is_kept(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x.nii", qform_code=0, sform_code=0, pixdim=[1, 0.5, 0.75, 3, 1, 1, 1, 1])
    volume = read_volume(path)
    assert volume.grid.spacing_mm == pytest.approx((0.5, 0.75, 3))
    write_volume(tmp_path / "y.nii", volume.data, volume.grid, like=volume)
    header = nib.load(tmp_path / "y.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)


def test_micrometres_become_millimetres(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x.nii", xyzt_units=3)
    assert read_info(path).grid.spacing_mm == pytest.approx((0.002, 0.002, 0.003))
    assert corner_error_mm(read_info(path).grid, grid_by_simpleitk(path)) < 1e-6


# ---------------------------------------------------------------- voxels


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


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 4, 3), (4, 1, 3), (4, 3, 1), (1, 1, 2), (4, 3, 2, 5), (4, 3, 1, 2)])
def test_voxels_survive_the_disk(suffix: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    data, grid = noise(shape), oblique_grid("PIL", shape[:3], np.array([3.0, 5, 7]))
    path = tmp_path / "new" / "folder" / f"x{suffix}"
    write_volume(path, data, grid)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.shape == shape and volume.data.flags.writeable
    assert corner_error_mm(volume.grid, grid) < CORNER_TOLERANCE_MM
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T
    np.testing.assert_array_equal(expected, data)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_trailing_single_time_point_is_dropped(tmp_path: Path) -> None:
    assert read_volume(nifti_file(tmp_path / "x.nii", noise((4, 3, 1, 1)))).data.shape == (4, 3, 1)
    assert read_volume(nifti_file(tmp_path / "y.nii", noise((4, 3, 2, 1, 1)))).data.shape == (4, 3, 2)
    image = sitk.GetImageFromArray(noise((1, 3, 4, 5)), isVector=False)
    sitk.WriteImage(image, str(tmp_path / "x.mha"))
    assert read_volume(tmp_path / "x.mha").data.shape == (5, 4, 3)


def test_scaling_is_applied_and_same_keeps_it(tmp_path: Path) -> None:
    stored = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.01, -0.25)
    nib.save(image, tmp_path / "x.nii")
    volume = read_volume(tmp_path / "x.nii")
    np.testing.assert_allclose(volume.data, stored * 0.01 - 0.25, atol=1e-6)
    write_volume(tmp_path / "y.nii", volume.data, volume.grid, like=volume, dtype="same")
    again = nib.load(tmp_path / "y.nii")
    assert again.get_data_dtype() == np.int16
    np.testing.assert_array_equal(again.dataobj.get_unscaled(), stored)
    np.testing.assert_allclose(again.get_fdata(), volume.data, atol=1e-6)
    write_volume(tmp_path / "y.mha", volume.data, volume.grid, like=volume, dtype="same")
    np.testing.assert_array_equal(read_volume(tmp_path / "y.mha").data, volume.data)


@pytest.mark.parametrize("suffix", [".nii", ".mha"])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", [0, 0, 2, 255, 255]),
        ("int16", [-32768, 0, 2, 300, 32767]),
        ("uint16", [0, 0, 2, 300, 65535]),
        ("int32", [-(2**31), 0, 2, 300, 2**31 - 1]),
        ("float32", [-3e9, 0.4, 1.6, 300, 3e9]),
        ("float64", [-3e9, 0.4, 1.6, 300, 3e9]),
    ],
)
def test_integers_are_rounded_and_clipped(dtype: str, expected: list[float], suffix: str, tmp_path: Path) -> None:
    data = np.array([-3e9, 0.4, 1.6, 300, 3e9]).reshape(5, 1, 1)
    path = tmp_path / f"x{suffix}"
    write_volume(path, data, Grid((5, 1, 1), np.eye(4)), dtype=dtype)
    stored = nib.load(path).dataobj if suffix == ".nii" else sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T
    assert np.asanyarray(stored).dtype == dtype and read_info(path).dtype == dtype
    np.testing.assert_array_equal(np.ravel(stored), np.array(expected, dtype))


def test_gzip_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, noise((4, 5, 6)), Grid((4, 5, 6), np.eye(4)))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


# ---------------------------------------------------------------- header fields


def test_true_fields_are_kept_and_false_ones_dropped(tmp_path: Path) -> None:
    fields = {
        "descrip": b"made up", "aux_file": b"none", "toffset": 1.5, "cal_min": -1, "cal_max": 1, "xyzt_units": 2 | 16,
        "pixdim": [1, 2, 2, 3, 750, 1, 1, 1], "dim_info": 0b111001, "slice_end": 3, "slice_code": 1,
        "slice_duration": 9, "intent_code": 3, "intent_name": b"t", "qform_code": 3, "sform_code": 3,
    }  # fmt: skip
    source = read_volume(nifti_file(tmp_path / "x.nii", noise((6, 5, 4, 3)), **fields))
    kept = ("descrip", "aux_file", "toffset", "cal_min", "cal_max", "xyzt_units", "intent_code", "intent_name")
    timing = ("dim_info", "slice_end", "slice_code", "slice_duration")
    for scale, keeps_timing in (((2, 2, 1), True), ((1, 1, 2), False)):
        grid = source.grid.upscaled(scale)
        write_volume(tmp_path / "y.nii.gz", noise((*grid.shape, 3)), grid, like=source)
        header = nib.load(tmp_path / "y.nii.gz").header
        for name in kept:
            assert header[name] == source.header[name], name
        for name in timing:
            assert header[name] == (source.header[name] if keeps_timing else 0), name
        assert header["pixdim"][4] == 750
        assert (int(header["qform_code"]), int(header["sform_code"])) == (3, 3)
        np.testing.assert_array_equal(header.get_zooms()[:3], np.float32(grid.spacing_mm))


def test_labels_and_windows_elsewhere_are_dropped(tmp_path: Path) -> None:
    source = read_volume(nifti_file(tmp_path / "x.nii", intent_code=1002, cal_min=5000, cal_max=6000))
    write_volume(tmp_path / "y.nii", source.data, source.grid, like=source)
    header = nib.load(tmp_path / "y.nii").header
    assert (int(header["intent_code"]), float(header["cal_min"]), float(header["cal_max"])) == (0, 0, 0)


def test_a_qform_into_another_space_loses_its_code(tmp_path: Path) -> None:
    image = nib.Nifti1Image(noise((4, 4, 4)), np.eye(4))
    image.set_sform(np.diag([1.1, 1, 1, 1]), 4)
    image.set_qform(np.eye(4), 1)
    nib.save(image, tmp_path / "x.nii")
    source = read_volume(tmp_path / "x.nii")
    write_volume(tmp_path / "y.nii", source.data, source.grid, like=source)
    header = nib.load(tmp_path / "y.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (4, 4)


# ---------------------------------------------------------------- bad input


def truncated(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
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


# ---------------------------------------------------------------- completely or not at all


class Failure(Exception):
    """Stands for any error inside a writer."""


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [Failure(), KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failing_writer_leaves_nothing_behind(
    suffix: str, error: BaseException, existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"x{suffix}"
    if existing:
        path.write_bytes(b"precious")

    def fail(temporary: Path, *_: object) -> None:
        assert temporary.parent == tmp_path and temporary.name.startswith(".") and temporary.name.endswith(suffix)
        temporary.write_bytes(b"half a fi")
        raise error

    monkeypatch.setattr(nifti, "write_nifti", fail)
    monkeypatch.setattr(itk_image, "write_itk", fail)
    with pytest.raises(InputError if isinstance(error, OSError) else type(error)) as caught:
        write_volume(path, noise((3, 4, 5)), Grid((3, 4, 5), np.eye(4)))
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: cannot be written (No space left on device); check folder and free space"
    assert [p.name for p in tmp_path.iterdir()] == ([path.name] if existing else [])
    assert not existing or path.read_bytes() == b"precious"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file size limit to set")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk(suffix: str, tmp_path: Path) -> None:
    resource, signal = pytest.importorskip("resource"), pytest.importorskip("signal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(InputError) as caught:
            write_volume(tmp_path / f"x{suffix}", noise((20, 20, 20)), Grid((20, 20, 20), np.eye(4)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(tmp_path / f"x{suffix}") in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_replaced_and_readable_by_others(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x.nii")
    os.umask(umask := os.umask(0))
    write_volume(path, noise((3, 3, 3)), Grid((3, 3, 3), np.eye(4)))
    assert read_volume(path).shape == (3, 3, 3)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("name", "data", "dtype", "cause"),
    [
        ("x.png", noise((3, 4, 5)), "float32", ".nii, .nii.gz, .mha, .nrrd"),
        ("x.mhd", noise((3, 4, 5)), "float32", "unknown output suffix"),
        ("x.nii", noise((3, 4, 6)), "float32", "(3, 4, 6)"),
        ("x.nii", noise((3, 4)), "float32", "(3, 4)"),
        ("x.nii", np.full((3, 4, 5), np.nan), "uint8", "60 voxels"),
        ("x.nii", np.full((3, 4, 5), 1e300), "float32", "float64"),
        ("x.nii", np.zeros((3, 4, 5), np.complex64), "float32", "real numbers"),
        ("x.nii", np.zeros((3, 4, 5, 0)), "float32", "no voxels"),
        ("x.nii", np.zeros((3, 4, 5, 40000), np.uint8), "uint8", "32767"),
        ("x.nii", noise((3, 4, 5)), "float16", "choose one of"),
        ("x.nii", noise((3, 4, 5)), "same", "source volume"),
        ("file/x.nii", noise((3, 4, 5)), "float32", "cannot be written"),
        ("folder.nii", noise((3, 4, 5)), "float32", "cannot be written"),
    ],
)
def test_bad_output_gives_one_line(name: str, data: np.ndarray, dtype: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.nii").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        write_volume(tmp_path / name, data, Grid((3, 4, 5), np.eye(4)), dtype=dtype)
    assert cause in str(caught.value) and "\n" not in str(caught.value)
    assert dtype in ("same", "float16") or str(tmp_path / name) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


# ---------------------------------------------------------------- finding


def test_finding_volumes(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.NII", "c.mha", ".hidden.nii", "notes.txt", "scan[1].nii", "deeper/d.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")

    def names(spec: str) -> list[str]:
        return [path.name for path in find_volumes(tmp_path / spec)]

    assert names("") == ["a.NII", "b.nii.gz", "c.mha", "scan[1].nii"]
    assert names("scan[1].nii") == ["scan[1].nii"]
    assert names("*.nii*") == ["b.nii.gz", "scan[1].nii"]
    assert names("**/*.nrrd") == ["d.nrrd"]
    assert find_volumes(str(tmp_path / "c.mha")) == [tmp_path / "c.mha"]
    for spec in ("notes.txt", "none.nii", "*.mhd", "n*"):
        with pytest.raises(InputError) as caught:
            find_volumes(tmp_path / spec)
        assert str(tmp_path / spec) in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no volume in this folder"):
        find_volumes(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a/x.nii.gz", "x"), ("x.NII.GZ", "x"), ("x.1.nii", "x.1"), ("x.mha", "x"), ("x.nrrd", "x"), ("x.y.png", "x.y")],
)
def test_stems(name: str, stem: str) -> None:
    assert volume_stem(name) == stem


# ---------------------------------------------------------------- dictionary transforms


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 5, 4, 3), (6, 5, 1)])
def test_the_transforms_pass_through_a_loader(
    shape: tuple[int, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = nifti_file(tmp_path / "scan.nii.gz", noise(shape), descrip=b"made up")
    n_channels = shape[3] if len(shape) > 3 else 1
    items = decollate_batch(
        next(iter(DataLoader(Dataset([{"image": source}], Compose([LoadVolumed("image")])), batch_size=1)))
    )
    image = items[0]["image"]
    assert isinstance(image, MetaTensor) and image.shape == (n_channels, *shape[:3])
    assert image.meta["filename_or_obj"] == str(source) and image.meta["original_dtype"] == "float32"
    np.testing.assert_array_equal(image.affine.numpy(), nib.load(source).affine)

    # What an upscaling network does: more voxels, and an affine to match.
    grid = Grid(tuple(image.shape[1:]), image.affine.numpy()).upscaled((2, 2, 1))
    image = MetaTensor(
        torch.nn.functional.interpolate(image.as_tensor()[None], size=grid.shape)[0],
        affine=torch.from_numpy(grid.affine.copy()),
        meta={key: value for key, value in image.meta.items() if key != "affine"},
    )
    out = SaveVolumed("image", tmp_path / "out")({"image": image})
    saved = read_volume(tmp_path / "out" / "scan_sr.nii.gz")
    assert out["image"].meta["saved_to"] == str(saved.path)
    assert corner_error_mm(saved.grid, read_info(source).grid) < CORNER_TOLERANCE_MM
    assert saved.header is not None and saved.header["descrip"].item() == b"made up"
    expected = np.moveaxis(image.numpy(), 0, -1)
    np.testing.assert_array_equal(saved.data, expected if n_channels > 1 else expected[..., 0])
    assert capfd.readouterr() == ("", "")


def test_output_names(tmp_path: Path) -> None:
    source = nifti_file(tmp_path / "scan.nii.gz")
    data = LoadVolumed("image")({"image": source})
    SaveVolumed("image", tmp_path, postfix="x4", suffix=".mha", dtype="int16")(data)
    assert read_info(tmp_path / "scan_x4.mha").dtype == np.int16
    SaveVolumed("image", output_file=tmp_path / "deep" / "own.nrrd")(data)
    assert (tmp_path / "deep" / "own.nrrd").is_file()
    SaveVolumed("image", tmp_path / "out", postfix="")(data)
    assert (tmp_path / "out" / "scan.nii.gz").is_file()


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    source = nifti_file(tmp_path / "scan.nii.gz")
    before = source.read_bytes()
    data = LoadVolumed("image")({"image": source})
    (tmp_path / "link.nii.gz").symlink_to(source)
    for saver in (
        SaveVolumed("image", tmp_path, postfix=""),
        SaveVolumed("image", output_file=source),
        SaveVolumed("image", output_file=tmp_path / "x" / ".." / "scan.nii.gz"),
        SaveVolumed("image", output_file=tmp_path / "link.nii.gz"),
    ):
        with pytest.raises(InputError, match="overwrite the input"):
            saver(data)
    assert source.read_bytes() == before


def test_two_inputs_of_one_name_do_not_share_an_output(tmp_path: Path) -> None:
    saver = SaveVolumed("image", tmp_path / "out")
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        nifti_file(tmp_path / str(number) / "T1.nii")
    first = LoadVolumed("image")({"image": tmp_path / "1" / "T1.nii"})
    saver(first)
    saver(first)  # the same again is fine
    with pytest.raises(InputError, match="already written"):
        saver(LoadVolumed("image")({"image": tmp_path / "2" / "T1.nii"}))


def test_what_the_saver_refuses(tmp_path: Path) -> None:
    image = LoadVolumed("image")({"image": nifti_file(tmp_path / "scan.nii")})["image"]
    saver = SaveVolumed("image", tmp_path)
    for bad in (torch.zeros(1, 2, 3, 4), MetaTensor(torch.zeros(1, 2, 3, 4)), image[None]):
        with pytest.raises(InputError, match="key image"):
            saver({"image": bad})
    with pytest.raises(InputError, match="suffix"):
        SaveVolumed("image", tmp_path, suffix=".png")
    with pytest.raises(InputError, match="2 keys"):
        SaveVolumed(["a", "b"], output_file="x.nii")
