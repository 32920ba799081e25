"""Synthetic series of a phantom: found, chosen, and read where they lie in the patient."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_files import (
    CORONAL,
    CT,
    ENHANCED_CT,
    MR,
    OBLIQUE,
    SAGITTAL,
    Planes,
    enhanced,
    grid_points,
    phantom,
    save,
    write_series,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom import choose_series, find_series, is_dicom, open_series, series_path


@settings(max_examples=30, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    shear=st.tuples(*[st.floats(-0.5, 0.5)] * 2),
    distance=st.floats(0.4, 8),
    order=st.permutations(range(4)),
    kind=st.sampled_from([CT, MR, ENHANCED_CT]),
)
def test_any_orientation_and_order(tmp_path_factory, angles, shear, distance, order, kind):
    folder = tmp_path_factory.mktemp("series")
    row, column, _ = Rotation.from_euler("xyz", angles, degrees=True).as_matrix().T
    tilt = tuple(shear[0] * row + shear[1] * column)
    planes = Planes(cosines=(row, column), shear=tilt, distance=distance, n=4, sop_class=kind)
    if kind == ENHANCED_CT:
        save(enhanced(planes, order), folder / "multi.dcm")
    else:
        write_series(folder, planes, places=order)
    volume = open_series(folder)
    np.testing.assert_allclose(volume.grid.affine, planes.affine, atol=1e-6)
    # A place off by the last digit of a decimal string may round to the next whole number.
    off = volume.read(0, 4) - phantom(grid_points(volume.grid.shape, volume.grid.affine))
    assert np.abs(off).max() <= 1 and np.count_nonzero(off) <= 2


@pytest.mark.parametrize("cosines", [((1, 0, 0), (0, 1, 0)), CORONAL, SAGITTAL, OBLIQUE])
def test_voxels_lie_where_the_phantom_says(tmp_path, cosines):
    planes = Planes(cosines=cosines)
    volume = open_series(write_series(tmp_path, planes, places=[5, 3, 1, 0, 2, 4]))
    np.testing.assert_allclose(volume.grid.affine, planes.affine, atol=1e-9)
    assert volume.grid.shape == (11, 9, 6)
    assert np.array_equal(volume.read(0, 6), phantom(grid_points(volume.grid.shape, volume.grid.affine)))
    assert volume.read(2, 4).dtype == np.float32
    assert np.array_equal(volume.read(2, 4), volume.read(0, 6)[..., 2:4])


def test_a_series_is_named_by_a_path(tmp_path):
    planes = Planes()
    write_series(tmp_path / "a", planes)
    write_series(tmp_path / "b", other := Planes(sop_class=MR, inter=0.0, n=4))
    (tmp_path / "notes.txt").write_text("no DICOM")
    found = find_series(tmp_path)
    assert {series.uid: series.n_images for series in found} == {planes.uid: 6, other.uid: 4}
    path = series_path(tmp_path, other.uid)
    assert is_dicom(path) and is_dicom(str(tmp_path))
    assert open_series(path).uid == other.uid
    with pytest.raises(InputError, match=r"2 series.*--series UID") as caught:
        open_series(tmp_path)
    assert planes.uid in str(caught.value) and "\n" not in str(caught.value)


def test_series_are_chosen(tmp_path):
    planes = Planes()
    write_series(tmp_path / "a", planes)
    write_series(tmp_path / "b", other := Planes(), SeriesNumber=8)
    write_series(tmp_path / "c", scout := Planes(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = find_series(tmp_path)
    assert [series.uid for series in choose_series(found, "8")] == [other.uid]
    assert [series.uid for series in choose_series(found, scout.uid)] == [scout.uid]
    assert {series.uid for series in choose_series(found, "all")} == {planes.uid, other.uid}
    with pytest.raises(InputError, match="no series '77'"):
        choose_series(found, "77")
