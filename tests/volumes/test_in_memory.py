"""Images of other libraries become volumes where they lie; what is none is refused by name."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import Volume, read_volume, volume_of

AFFINE = np.array([[0, -1.5, 0, 4], [-1.0, 0, 0.1, 5], [0, 0.1, 2.0, -6], [0, 0, 0, 1]])
SHAPE = (4, 5, 6)


@pytest.fixture
def voxels(rng) -> np.ndarray:
    return rng.random(SHAPE)


def check(volume: Volume, voxels: np.ndarray) -> None:
    assert volume.data.dtype == np.float32 and volume.shape == voxels.shape
    np.testing.assert_array_equal(volume.data, voxels.astype(np.float32))
    np.testing.assert_allclose(volume.grid.affine, AFFINE, atol=1e-6)


def test_arrays_tensors_and_images_are_one_volume(voxels):
    tensor = torch.from_numpy(voxels)
    check(volume_of(voxels, AFFINE), voxels)
    check(volume_of(tensor, torch.from_numpy(AFFINE)), voxels)
    check(volume_of(voxels[..., None], AFFINE.tolist()), voxels)
    check(volume_of(MetaTensor(tensor[None], affine=AFFINE)), voxels)
    check(volume_of(MetaTensor(tensor[None], affine=np.diag([-1, -1, 1, 1]) @ AFFINE, meta={"space": "LPS"})), voxels)
    check(volume_of(nib.Nifti1Image(voxels, AFFINE)), voxels)
    check(volume_of(nib.MGHImage(voxels.astype(np.float32), AFFINE)), voxels)
    volume = volume_of(voxels, AFFINE)
    assert volume_of(volume) is volume


def test_a_series_has_its_times_last(rng):
    series = rng.random((*SHAPE, 3))
    check(volume_of(series, AFFINE), series)
    check(volume_of(MetaTensor(torch.from_numpy(np.moveaxis(series, -1, 0)), affine=AFFINE)), series)
    assert volume_of(series, AFFINE).n_times == 3 and volume_of(series, AFFINE).grid == Grid(SHAPE, AFFINE)


def test_an_image_of_nibabel_is_what_its_file_is(voxels, tmp_path):
    image = nib.Nifti1Image((1000 * voxels).astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 3)
    image.header.set_xyzt_units("meter")
    image.header["descrip"] = b"a scan"
    nib.save(image, tmp_path / "x.nii")
    loaded, read = volume_of(nib.load(tmp_path / "x.nii")), read_volume(tmp_path / "x.nii")
    np.testing.assert_array_equal(loaded.data, read.data)
    np.testing.assert_array_equal(loaded.grid.affine, read.grid.affine)
    assert loaded.header is not None and loaded.header["descrip"].item() == b"a scan"


@pytest.mark.parametrize(
    ("image", "affine", "said"),
    [
        (np.zeros(SHAPE), None, "affine: an array needs one"),
        (MetaTensor(torch.zeros(1, *SHAPE)), AFFINE, "affine: the image has its own"),
        (np.zeros(SHAPE), np.zeros((4, 4)), "affine"),
        (np.zeros((4, 4)), AFFINE, r"of shape \(4, 4\); need real numbers"),
        (np.zeros(SHAPE, complex), AFFINE, "complex128 of shape"),
        ([1, 2], AFFINE, "image: list is none"),
    ],
)
def test_what_is_no_image_is_refused(image, affine, said):
    with pytest.raises(InputError, match=said):
        volume_of(image, affine)
