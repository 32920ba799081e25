"""A volume read in slices is the volume read whole."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from volume_files import AXCODES, SUFFIXES, nifti_file, noise, oblique_grid

from medsr_monai.acquisition import FixedWindow, RobustRange
from medsr_monai.geometry import reorient
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import LazyVolume, lazy, open_volume, read_info, read_volume, write_volume


def assert_same(path: Path) -> None:
    whole = read_volume(path)
    series = whole.data if whole.data.ndim == 4 else whole.data[..., None]
    for source, in_memory in ((path, False), (path, True), (whole, False)):
        assert_slices(open_volume(source, in_memory=in_memory), series)


def assert_slices(volume: LazyVolume, series: np.ndarray) -> None:
    grid, orientation = volume.info.grid.canonical()
    with volume:
        assert volume.grid == grid and volume.n_times == series.shape[3]
        for time in range(volume.n_times):
            expected = reorient(series[..., time], orientation)
            for axis in range(3):
                n = grid.shape[axis]
                cut = (slice(None),) * axis
                for start, stop in ((0, n), (0, 1), (n - 1, n), (n // 3, max(n // 3 + 1, n // 2))):
                    part = volume.read(start, stop, axis, time)
                    assert part.dtype == np.float32
                    np.testing.assert_array_equal(part, expected[(*cut, slice(start, stop))])
            for rule in (RobustRange(), RobustRange(20, 60), FixedWindow(-3, 4)):
                assert volume.scan(rule)[time].window == rule.window(expected)


@pytest.mark.parametrize("axcodes", AXCODES)
def test_slices_of_any_orientation(axcodes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy, "_SCAN_VOXELS", 40)
    suffix = SUFFIXES[AXCODES.index(axcodes) % 4]
    path = tmp_path / f"x{suffix}"
    write_volume(path, noise((5, 4, 6)), oblique_grid(axcodes, (5, 4, 6), np.array([3.0, 5, 7])))
    assert_same(path)
    with open_volume(path) as volume:
        letter = axcodes[2]
        assert volume.slow_axis == "RLAPSI".index(letter) // 2
        assert volume.is_descending == (letter in "LPI")


@pytest.mark.parametrize("dtype", ["uint8", ">i2", "int16", ">f4", "float64", "int64", "uint16"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_types_and_scaling(dtype: str, suffix: str, tmp_path: Path) -> None:
    data = (noise((5, 4, 6, 2)) * 20 + 100).astype(dtype)
    image = nib.Nifti1Image(data, np.eye(4), dtype=np.dtype(dtype))
    image.header.set_slope_inter(0.013, -7.1)
    nib.save(image, tmp_path / f"x{suffix}")
    assert_same(tmp_path / f"x{suffix}")


@pytest.mark.parametrize("name", ["x.mha", "x.nrrd", "x.mhd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_metaimage_and_nrrd(name: str, compressed: bool, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray((noise((6, 5, 4)) * 1000).astype(np.int16))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=compressed)
    assert_same(tmp_path / name)
    needed = lazy.voxels_to_unpack(read_info(tmp_path / name))
    assert needed == (240 if compressed or name == "x.mhd" else 0)


def test_what_the_values_forbid_is_said_as_by_the_reader(tmp_path: Path) -> None:
    bad = noise((6, 5, 4))
    bad[0, 0, :3] = np.nan, np.inf, np.nan
    for name, data in (("nan.nii", bad), ("constant.nii.gz", np.ones((6, 5, 4), np.float32))):
        nifti_file(tmp_path / name, data)
        with pytest.raises(InputError) as whole:
            read_volume(tmp_path / name)
        with open_volume(tmp_path / name) as volume, pytest.raises(InputError) as slices:
            volume.scan()
        assert str(slices.value) == str(whole.value)


def test_damaged_gzip_data_are_noticed_on_opening(tmp_path: Path) -> None:
    path = nifti_file(tmp_path / "x.nii.gz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"x\.nii\.gz: truncated"):
        open_volume(path)
    path.write_bytes(gzip.compress(b"no image"))
    with pytest.raises(InputError, match="not a valid NIfTI"):
        open_volume(path)


def test_slices_that_are_not_there(tmp_path: Path) -> None:
    with open_volume(nifti_file(tmp_path / "x.nii")) as volume:
        for start, stop in ((0, 0), (-1, 2), (3, 5)):
            with pytest.raises(InputError, match="no slices"):
                volume.read(start, stop)
