"""Volumes keep their voxels and their place on disk; no output is ever half written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from volume_files import (
    AXCODES,
    CORNER_TOLERANCE_MM,
    SUFFIXES,
    grid_by_nibabel,
    grid_by_simpleitk,
    nifti_file,
    noise,
    oblique_grid,
)

from medsr_monai.geometry import Grid, corner_error_mm
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import read_info, read_volume, slab_writing, write_volume


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


def test_a_sheared_affine_goes_into_the_sform_alone(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.3
    grid = Grid((4, 5, 6), affine)
    for suffix in SUFFIXES:
        write_volume(tmp_path / f"x{suffix}", noise(grid.shape), grid)
        assert corner_error_mm(read_volume(tmp_path / f"x{suffix}").grid, grid) < CORNER_TOLERANCE_MM
    header = nib.load(tmp_path / "x.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)


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


class Failing:
    """In place of a class: made of a file, it fails."""

    def __init__(self, fail: Callable[..., None]) -> None:
        self.fail = fail

    def __call__(self, file: BinaryIO, *_: object) -> None:
        self.fail(file)


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

    def fail(file: BinaryIO) -> None:
        temporary = Path(file.name)
        assert temporary.parent == tmp_path and temporary.name.startswith(".") and temporary.name.endswith(suffix)
        file.write(b"half a fi")
        raise error

    monkeypatch.setattr(slab_writing, "GzipStream" if suffix == ".nii.gz" else "_PlanesBehindHeader", Failing(fail))
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
        ("folder.nii", noise((3, 4, 5)), "float32", "in the way"),
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
