"""Enhanced multi-frame CT and MR: read like classic ones, and derived series of them are classic."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_files import (
    CT,
    ENHANCED_CT,
    ENHANCED_MR,
    MR,
    SAGITTAL,
    Planes,
    enhanced,
    item,
    save,
    write_derived,
    write_series,
)
from dicom_validators import assert_valid

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom import find_series, open_series

KINDS = [(ENHANCED_CT, CT, -1024.0), (ENHANCED_MR, MR, 0.0)]


@pytest.mark.parametrize(("kind", "classic", "inter"), KINDS)
def test_frames_in_any_order_are_a_volume(tmp_path, kind, classic, inter):
    planes = Planes(sop_class=kind, cosines=SAGITTAL, inter=inter)
    path = save(enhanced(planes, [4, 0, 5, 2, 1, 3]), tmp_path / "multi.dcm")
    assert find_series(tmp_path)[0].n_images == 6
    volume = open_series(path)
    np.testing.assert_allclose(volume.grid.affine, planes.affine, atol=1e-9)
    assert np.array_equal(volume.read(0, 6), planes.intensities())


@pytest.mark.parametrize(("kind", "classic", "inter"), KINDS)
def test_its_derived_series_is_classic_and_valid(tmp_path, kind, classic, inter):
    planes = Planes(sop_class=kind, inter=inter)
    volume = open_series(save(enhanced(planes), tmp_path / "in" / "multi.dcm"))
    (tmp_path / "out").mkdir()
    grid = volume.grid.upscaled((1, 1, 2))
    voxels = np.repeat(volume.read(0, 6), 2, axis=2)
    write_derived(tmp_path / "out", voxels, grid, volume, "bundle 1.0.0")
    derived = open_series(tmp_path / "out")
    np.testing.assert_allclose(derived.grid.affine, grid.affine, atol=1e-6)
    assert np.array_equal(derived.read(0, 12), voxels)
    first = pydicom.dcmread(tmp_path / "out" / "0001.dcm")
    assert first.SOPClassUID == classic
    assert "PerFrameFunctionalGroupsSequence" not in first and "NumberOfFrames" not in first
    sixth = pydicom.dcmread(tmp_path / "out" / "0006.dcm")
    assert sixth.SourceImageSequence[0].ReferencedFrameNumber == [3, 4]  # those it lies between
    assert_valid(tmp_path / "out")


def test_a_multi_frame_file_is_a_series_by_itself(tmp_path):
    planes = Planes(sop_class=ENHANCED_CT)
    path = save(enhanced(planes, [0, 1, 2]), tmp_path / "a.dcm")
    other = enhanced(planes, [3, 4, 5])
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    save(other, tmp_path / "b.dcm")
    assert open_series(path).grid.shape[2] == 3
    assert np.array_equal(open_series(tmp_path).read(0, 6), planes.intensities())


def test_frames_of_several_echoes_are_refused_by_name(tmp_path):
    dataset = enhanced(Planes(sop_class=ENHANCED_MR, inter=0.0), [0, 1, 2, 0.0, 1, 2])
    del dataset.SharedFunctionalGroupsSequence[0].MREchoSequence
    for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        frame.MREchoSequence = [item(EffectiveEchoTime=10.0 if k < 3 else 80.0)]
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2] + bytes(len(dataset.PixelData) // 2)
    path = save(dataset, tmp_path / "echoes.dcm")
    with pytest.raises(InputError, match=r"two images at one position .* differ in EffectiveEchoTime"):
        open_series(path)


def test_stacks_of_two_orientations_are_refused_by_frame(tmp_path):
    dataset = enhanced(Planes(sop_class=ENHANCED_MR, inter=0.0))
    del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        cosines = [1, 0, 0, 0, 1, 0] if k < 3 else [0, 1, 0, 0, 0, -1]
        frame.PlaneOrientationSequence = [item(ImageOrientationPatient=cosines)]
    path = save(dataset, tmp_path / "stacks.dcm")
    with pytest.raises(InputError, match=r"frame 4 and .*frame 1 differ in orientation"):
        open_series(path)


def test_frames_without_positions_are_refused(tmp_path):
    dataset = enhanced(Planes(sop_class=ENHANCED_CT))
    del dataset.PerFrameFunctionalGroupsSequence
    with pytest.raises(InputError, match="6 frames without a position each"):
        open_series(save(dataset, tmp_path / "multi.dcm"))


def test_more_positions_than_frames_are_refused(tmp_path):
    dataset = enhanced(Planes(sop_class=ENHANCED_CT))
    dataset.NumberOfFrames = 5
    with pytest.raises(InputError, match="5 frames, but positions for 6"):
        open_series(save(dataset, tmp_path / "multi.dcm"))


def test_classic_and_enhanced_agree(tmp_path):
    planes = Planes(n=3)
    write_series(tmp_path / "classic", planes)
    save(enhanced(planes.with_(sop_class=ENHANCED_CT)), tmp_path / "enhanced" / "multi.dcm")
    classic, multi = (open_series(tmp_path / name) for name in ("classic", "enhanced"))
    assert classic.grid == multi.grid
    assert np.array_equal(classic.read(0, 3), multi.read(0, 3))
