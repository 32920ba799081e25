"""MONAI's loaders take our transforms, and what they write overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose
from volume_files import CORNER_TOLERANCE_MM, nifti_file, noise

from medsr_monai.geometry import Grid, corner_error_mm
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import LoadVolumed, SaveVolumed, read_info, read_volume


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
