"""The real thick-slice CT: read, upscaled by repeating slices, written, validated, and read back by others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import write_derived
from monai.transforms import LoadImage

from medsr_monai.volumes.dicom import DicomVolume, find_series, open_series

pytestmark = pytest.mark.data
FACTOR = 2
ALGORITHM = "ct_thin_slices 0.3.0, repeated slices"


@pytest.fixture(scope="module")
def folder(data_dir, tmp_path_factory) -> Path:
    archive = data_dir / "dicom" / "ct_thick_series.tar.gz"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not among the real images")
    unpacked = tmp_path_factory.mktemp("ct")
    shutil.unpack_archive(archive, unpacked)
    return next(path for path in unpacked.rglob("*") if path.is_dir() and any(path.glob("*.dcm")))


@pytest.fixture(scope="module")
def source(folder) -> DicomVolume:
    return open_series(folder)


@pytest.fixture(scope="module")
def derived(source, tmp_path_factory) -> tuple[Path, np.ndarray]:
    voxels = np.repeat(source.read(0, source.grid.shape[2]), FACTOR, axis=2)
    out = tmp_path_factory.mktemp("derived")
    write_derived(out, voxels, source.grid.upscaled((1, 1, FACTOR)), source, ALGORITHM)
    return out, voxels


def by_itk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (X, Y, Z) and affine in RAS."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


def test_it_is_found(folder):
    (series,) = find_series(folder)
    assert (series.modality, series.n_images, series.rows, series.columns) == ("CT", 30, 512, 512)
    assert not series.is_localizer


def test_it_is_read_as_itk_reads_it(folder, source):
    voxels, affine = by_itk(folder)
    assert np.array_equal(source.read(0, 30), voxels)
    np.testing.assert_allclose(source.grid.affine, affine, atol=1e-3)


def test_itk_reads_the_derived_series_in_place(source, derived):
    voxels, affine = by_itk(derived[0])
    assert np.array_equal(voxels, derived[1])
    np.testing.assert_allclose(affine, source.grid.upscaled((1, 1, FACTOR)).affine, atol=1e-3)


def test_monai_reads_the_derived_series_in_place(source, derived):
    image = LoadImage(reader="PydicomReader", image_only=True)(derived[0])
    assert np.array_equal(image.numpy(), derived[1])
    np.testing.assert_allclose(image.affine, source.grid.upscaled((1, 1, FACTOR)).affine, atol=1e-3)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (apt install dicom3tools)")
def test_validators_find_no_error(folder, derived):
    files = sorted(derived[0].iterdir())
    for file in (files[0], files[-1]):
        run = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True, check=False)
        assert "Error" not in run.stderr + run.stdout, run.stderr
        assert "CTImage" in run.stderr + run.stdout
    together = [*files, *sorted(folder.glob("*.dcm"))]
    run = subprocess.run(["dcentvfy", *together], capture_output=True, text=True, check=False)
    assert "Error" not in run.stderr + run.stdout, run.stderr
