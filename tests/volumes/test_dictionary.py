"""MONAI's loaders take our transform."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose
from volume_files import nifti_file, noise

from medsr_monai.volumes import LoadVolumed


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
    assert capfd.readouterr() == ("", "")
