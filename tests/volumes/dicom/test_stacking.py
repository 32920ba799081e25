"""What makes a stack of slices: order, duplicates, gaps, tilt, strangers."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_files import CORONAL, CT, MR, PET, SECRET, Planes, classic_slice, save, write_series

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom import open_series

ONE_LINE = r"[^\n]*"


def refused(path, text: str, **options) -> str:
    with pytest.raises(InputError, match=text) as caught:
        open_series(path, **options)
    message = str(caught.value)
    assert "\n" not in message and SECRET not in message and "Doe" not in message
    return message


def test_gantry_tilt_is_kept_as_a_sheared_grid(tmp_path):
    planes = Planes(shear=(0.0, 0.75, 0.0))
    volume = open_series(write_series(tmp_path, planes))
    np.testing.assert_allclose(volume.grid.affine, planes.affine, atol=1e-9)
    assert volume.notes == ("slices tilted by 14.04 degrees, kept as a sheared grid",)
    assert np.array_equal(volume.read(0, 6), planes.intensities())


def test_copies_are_dropped_and_said(tmp_path):
    planes = Planes()
    write_series(tmp_path / "a", planes)
    write_series(tmp_path / "b", planes, places=[1, 2])  # the same instances
    again = classic_slice(planes, 4)
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"  # the same image
    save(again, tmp_path / "c" / "again.dcm")
    volume = open_series(tmp_path)
    assert volume.notes == ("3 duplicate images dropped",)
    assert np.array_equal(volume.read(0, 6), planes.intensities())


@pytest.mark.parametrize("keyword", ["EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber", "DiffusionBValue"])
def test_other_pixels_at_one_place_are_refused_by_the_tag_that_differs(tmp_path, keyword):
    planes = Planes(sop_class=MR, inter=0.0)
    write_series(tmp_path, planes)
    other = classic_slice(planes, 2)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    setattr(other, keyword, 7)
    other.PixelData = bytes(len(other.PixelData))
    save(other, tmp_path / "other.dcm")
    refused(tmp_path, f"two images at one position .* differ in {keyword}")


def test_nothing_but_pixels_differ(tmp_path):
    planes = Planes()
    write_series(tmp_path, planes)
    other = classic_slice(planes, 2)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    other.PixelData = bytes(len(other.PixelData))
    save(other, tmp_path / "other.dcm")
    refused(tmp_path, "have other pixels")


def test_a_missing_slice_is_refused_with_its_place(tmp_path):
    path = write_series(tmp_path, Planes(), places=[0, 1, 2, 4, 5])
    assert "-24.12 to -18.12 mm" in refused(path, "slices 3.000 mm apart, but not from .*--uneven resample")


def test_a_missing_slice_is_interpolated_when_asked(tmp_path):
    planes = Planes()
    volume = open_series(write_series(tmp_path, planes, places=[0, 1, 2, 4, 5]), uneven="resample")
    np.testing.assert_allclose(volume.grid.affine, planes.affine, atol=1e-9)
    assert volume.grid.shape == (11, 9, 6)
    expected = planes.intensities().astype(np.float64)
    expected[..., 3] = (expected[..., 2] + expected[..., 4]) / 2
    np.testing.assert_allclose(volume.read(0, 6), expected, atol=1e-3)
    for k in range(6):
        np.testing.assert_allclose(volume.read(k, k + 1)[..., 0], expected[..., k], atol=1e-3)
    assert volume.notes == ("5 unevenly spaced slices resampled to 6, 3 mm apart (linear)",)


def test_uneven_and_tilted_is_resampled_along_the_tilt(tmp_path):
    planes = Planes(shear=(0.0, 0.75, 0.0))
    volume = open_series(write_series(tmp_path, planes, places=[0, 1, 2.4, 3, 5]), uneven="resample")
    np.testing.assert_allclose(volume.grid.affine[:3, 2] * 3, planes.affine[:3, 2] * 5 * 3 / (volume.grid.shape[2] - 1))


def test_even_slices_are_not_resampled(tmp_path):
    planes = Planes()
    volume = open_series(write_series(tmp_path, planes), uneven="resample")
    assert volume.notes == () and np.array_equal(volume.read(0, 6), planes.intensities())


def test_jitter_within_the_tolerance_is_even(tmp_path):
    planes = Planes()
    places = [0, 1.04, 1.97, 3, 3.99, 5]
    volume = open_series(write_series(tmp_path, planes, places=places))
    np.testing.assert_allclose(volume.grid.affine, planes.affine, atol=1e-9)
    refused(write_series(tmp_path, planes, places=[0, 1.06, 2, 3, 4, 5]), "apart, but not")


def test_a_made_up_volume_is_refused(tmp_path):
    path = write_series(tmp_path, Planes(), places=[0, 1, 2, 3, 900])
    refused(path, "most of the volume is missing", uneven="resample")


def test_slices_shifted_sideways_are_refused(tmp_path):
    planes = Planes()
    write_series(tmp_path, planes)
    shifted = classic_slice(planes.with_(origin=(-9.0, 7.5, -30.125)), 3)
    save(shifted, tmp_path / "021.dcm")
    refused(tmp_path, "shifted sideways")
    refused(tmp_path, "shifted sideways", uneven="resample")


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"rows": 12}, "size"), ({"spacing": (1.0, 2.0)}, "PixelSpacing"), ({"cosines": CORONAL}, "orientation")],
)
def test_strangers_are_refused(tmp_path, changes, what):
    planes = Planes()
    write_series(tmp_path, planes)
    stranger = classic_slice(planes.with_(**changes), 9)
    save(stranger, tmp_path / "stranger.dcm")
    refused(tmp_path, f"differ in {what}")


def test_localizers_are_left_out_and_said(tmp_path):
    planes = Planes()
    write_series(tmp_path, planes)
    scout = classic_slice(planes.with_(cosines=CORONAL, rows=20), 9)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, tmp_path / "scout.dcm")
    volume = open_series(tmp_path)
    assert volume.notes == ("1 localizer image left out",)
    assert np.array_equal(volume.read(0, 6), planes.intensities())


def test_one_slice_is_as_thick_as_it_says(tmp_path):
    planes = Planes(n=1)
    path = write_series(tmp_path, planes)
    np.testing.assert_allclose(open_series(path).grid.affine, planes.affine, atol=1e-9)
    write_series(tmp_path, planes, SliceThickness=None)
    refused(path, "one slice without SliceThickness")


def test_each_slice_has_its_own_rescale_slope(tmp_path):
    planes = Planes(sop_class=PET, inter=0.0)
    for k in range(6):
        save(classic_slice(planes, k, slope=0.5 + 0.25 * k), tmp_path / f"{k}.dcm")
    volume = open_series(tmp_path)
    assert (volume.storage.dtype, volume.storage.slope, volume.storage.inter) == (np.int16, 1.75, 0.0)
    assert np.abs(volume.read(0, 6) - planes.intensities()).max() <= 1.75 / 2


def test_one_file_stands_for_its_series_in_its_folder(tmp_path):
    planes = Planes()
    write_series(tmp_path, planes)
    save(classic_slice(Planes(sop_class=CT), 0), tmp_path / "another.dcm")
    assert open_series(tmp_path / "007.dcm").uid == planes.uid
    assert open_series(tmp_path / "007.dcm").grid.shape[2] == 6


@pytest.mark.parametrize(("keyword", "value"), [("PatientID", "5678"), ("StudyInstanceUID", "1.2.3")])
def test_two_patients_or_studies_under_one_uid_are_no_volume(tmp_path, keyword, value):
    write_series(tmp_path, Planes())
    stranger = pydicom.dcmread(tmp_path / "021.dcm")
    setattr(stranger, keyword, value)
    save(stranger, tmp_path / "021.dcm")
    with pytest.raises(InputError, match=f"differ in {keyword}") as caught:
        open_series(tmp_path)
    assert value not in str(caught.value) and "1234" not in str(caught.value)
