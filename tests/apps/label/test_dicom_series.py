"""DICOM series, from a folder and from a real PACS: as a volume, and as a derived series that the PACS takes back."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medsr_label import client as label
from medsr_monai.bundle.workflows import bundle_root, run_inference
from medsr_monai.geometry import Grid, corner_error_mm
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import read_volume
from tests.apps.label.series import COLUMNS, ROWS, SLICES, made_series
from tests.apps.label.server_process import BUNDLE, LabelServer
from tests.orthanc import MISSING, PASSWORD, USER, Orthanc

pytestmark = [pytest.mark.label, pytest.mark.usefixtures("workflow_leaves_no_trace")]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory, needs_monai_label: None) -> tuple[str, Path]:
    """A series: its UID, and the folder of its files."""
    uid, files = made_series()
    folder = tmp_path_factory.mktemp("dicom") / "head"
    folder.mkdir()
    for number, content in enumerate(files):
        (folder / f"IM{number}").write_bytes(content)
    return uid, folder


@pytest.fixture(scope="module")
def folder_server(scan: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServer]:
    with zipfile.ZipFile(scan[1].parent / "zipped.zip", "w") as archive:
        for file in scan[1].iterdir():
            archive.write(file, f"deep/{file.name}")
    started = LabelServer(scan[1].parent, tmp_path_factory.mktemp("server"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def pacs(scan: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if MISSING:
        pytest.skip(MISSING)
    started = Orthanc(tmp_path_factory.mktemp("orthanc"))
    for file in scan[1].iterdir():
        started.rest("/instances", file.read_bytes())
    yield started
    started.stop()


@pytest.fixture(scope="module")
def pacs_server(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServer]:
    login = {"MONAI_LABEL_DICOMWEB_USERNAME": USER, "MONAI_LABEL_DICOMWEB_PASSWORD": PASSWORD}
    started = LabelServer(f"{pacs.url}/dicom-web", tmp_path_factory.mktemp("pacs_server"), **login)
    yield started
    started.stop()


def assert_is_the_upscaled_series(written: Path, scan: tuple[str, Path], tmp_path: Path) -> None:
    """What `medsr upscale` makes of the same files, where SimpleITK sees the source."""
    reference = tmp_path / "reference" / "sr.nii.gz"
    files = {"input": str(scan[1]), "output_dir": str(reference.parent), "output_file": str(reference)}
    run_inference(bundle_root(BUNDLE), **files, progress=False)
    got, wanted = read_volume(written), read_volume(reference)
    assert np.abs(got.data - wanted.data).max() == 0
    assert sorted(got.data.shape) == sorted((2 * COLUMNS, 2 * ROWS, 2 * SLICES))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(scan[1])))
    assert corner_error_mm(got.grid.canonical()[0], grid_of(reader.Execute()).canonical()[0]) <= 1e-3


def grid_of(image: sitk.Image) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Grid(image.GetSize(), np.diag([-1, -1, 1, 1]) @ affine)


def unpacked(archive: Path, folder: Path) -> list[Path]:
    with zipfile.ZipFile(archive) as zipped:
        assert all(Path(name).name == name for name in zipped.namelist())
        zipped.extractall(folder)
    return sorted(folder.iterdir())


def assert_is_the_derived_series(files: list[Path], scan: tuple[str, Path], volume: Path) -> None:
    """One file a slice, of the source's study, with the voxels of the volume up to rounding."""
    from pydicom import dcmread

    assert len(files) == 2 * SLICES
    head, source = dcmread(files[0]), dcmread(next(scan[1].iterdir()))
    assert head.StudyInstanceUID == source.StudyInstanceUID and head.SeriesInstanceUID != source.SeriesInstanceUID
    assert "DERIVED" in head.ImageType and "super-resolution" in head.DerivationDescription.lower()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(files[0].parent)))
    series, wanted = reader.Execute(), read_volume(volume)
    assert corner_error_mm(grid_of(series).canonical()[0], wanted.grid.canonical()[0]) <= 1e-3
    assert abs(sitk.GetArrayViewFromImage(series).mean() - wanted.data.mean()) <= 0.5


@pytest.mark.parametrize("image", ["head", "zipped", "zipped.zip"])
def test_a_series_in_the_folder(folder_server: LabelServer, scan: tuple[str, Path], tmp_path: Path, image: str) -> None:
    if image == "zipped":  # the ID of a zip is its whole name
        assert folder_server.post(image)[0] == 404
        return
    volume = label.fetch_upscaled(folder_server.url, image, tmp_path / "sr.nii.gz")
    assert_is_the_upscaled_series(volume, scan, tmp_path)
    series = label.fetch_upscaled(folder_server.url, image, tmp_path / "sr.zip")
    assert_is_the_derived_series(unpacked(series, tmp_path / "series"), scan, volume)
    assert folder_server.left_behind() == []


def test_a_series_of_the_pacs_and_its_way_back(
    pacs: Orthanc, pacs_server: LabelServer, scan: tuple[str, Path], tmp_path: Path
) -> None:
    uid = scan[0]
    assert uid in label.server_info(pacs_server.url)["datastore"]["images"]
    volume = label.fetch_upscaled(pacs_server.url, uid, tmp_path / "sr.nii.gz")
    assert_is_the_upscaled_series(volume, scan, tmp_path)
    files = unpacked(label.fetch_upscaled(pacs_server.url, uid, tmp_path / "sr.zip"), tmp_path / "series")
    assert_is_the_derived_series(files, scan, volume)
    for file in files:
        pacs.rest("/instances", file.read_bytes())
    assert sorted(pacs.series().values()) == [SLICES, 2 * SLICES]


@pytest.mark.parametrize("image", ["..", "../../etc", "1.2.3/../4", "a.b", "1" * 65, "1.2.3\\4"])
def test_an_id_that_is_no_uid(pacs_server: LabelServer, image: str) -> None:
    status, body = pacs_server.post(image)
    assert status == 400 and "must be a SeriesInstanceUID" in json.loads(body)["detail"]


def test_a_series_that_the_pacs_does_not_have(pacs_server: LabelServer) -> None:
    assert pacs_server.post("1.2.3.4")[0] == 404


def test_a_series_that_grew_is_fetched_again(pacs: Orthanc, pacs_server: LabelServer) -> None:
    uid, files = made_series()
    for content in files[:-2]:
        pacs.rest("/instances", content)
    depths = []
    for content in files[-2:]:
        status, body = pacs_server.post(uid, params={"result_extension": ".zip"})
        assert status == 200
        depths.append(len(zipfile.ZipFile(io.BytesIO(body)).namelist()))
        pacs.rest("/instances", content)
    assert depths == [2 * (SLICES - 2), 2 * (SLICES - 1)]


def test_nothing_of_the_patient_is_written_or_logged(pacs_server: LabelServer) -> None:
    private = next(pacs_server.temporary.glob("medsr-label-*"))
    names = [str(path) for path in private.rglob("*")]
    notes = [path.read_text() for path in private.rglob("*.json")]
    assert [text for text in [pacs_server.log.read_text(), *names, *notes] if "Doe" in text or "4711" in text] == []


def test_a_pacs_that_does_not_answer(pacs: Orthanc, pacs_server: LabelServer, scan: tuple[str, Path]) -> None:
    """The last test here: it stops the PACS."""
    pacs.stop()
    with pytest.raises(InputError, match=r"does not answer.*502"):
        label.fetch_upscaled(pacs_server.url, scan[0], "never.nii.gz")
    assert pacs_server.process.poll() is None
