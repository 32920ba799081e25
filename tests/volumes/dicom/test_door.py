"""`medsr upscale` and `medsr dicom` on DICOM: the same result as for a volume file, written as a derived series."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import AXIAL, CORONAL, MR, OBLIQUE, SAGITTAL, SECRET, Planes, write_series

from medsr_monai.bundle.commands import cli
from medsr_monai.bundle.workflows import bundle_identity, bundle_root
from medsr_monai.geometry import corner_error_mm
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import find_volumes, open_volume, read_info, read_volume
from medsr_monai.volumes.dicom import open_series

KINDS = {
    "axial CT": Planes(cosines=AXIAL),
    "sagittal MR": Planes(cosines=SAGITTAL, sop_class=MR, inter=0.0),
    "coronal MR": Planes(cosines=CORONAL, sop_class=MR, inter=0.0),
    "oblique CT": Planes(cosines=OBLIQUE),
    "tilted CT": Planes(shear=(0.0, 0.75, 0.0)),
}


@pytest.fixture
def medsr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture):
    """Run the command: its exit status, and all that it said."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["medsr", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out + said.err + caplog.text

    return run


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_series(tmp_path / "scan", KINDS["axial CT"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_becomes_a_derived_one_with_the_pixels_of_the_nifti_route(kind, tmp_path, medsr):
    planes = KINDS[kind]
    folder, out = write_series(tmp_path / "scan", planes), tmp_path / "out"
    status, said = medsr("upscale", folder, out, "--progress", False)
    assert status == 0, said
    source, result = read_volume(folder), read_volume(out)
    assert result.grid.shape == tuple(2 * n for n in source.grid.shape)
    assert corner_error_mm(result.grid, source.grid.upscaled(2)) <= 1e-3

    assert medsr("dicom", "read", folder, tmp_path / "scan.nii")[0] == 0
    assert medsr("upscale", tmp_path / "scan.nii", tmp_path / "sr.nii", "--progress", False)[0] == 0
    nifti = read_volume(tmp_path / "sr.nii")
    assert corner_error_mm(result.grid, nifti.grid) <= 1e-3
    assert np.abs(result.data - nifti.data).max() <= 0.5 + 1e-3
    assert abs(result.data.mean(dtype=float) - source.data.mean(dtype=float)) <= 0.5

    if kind != "tilted CT":  # SimpleITK has no sheared grids
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(out)))
        image = reader.Execute()
        lps = np.diag([-1.0, -1, 1, 1]) @ result.grid.affine
        direction = np.array(image.GetDirection()).reshape(3, 3)
        assert np.abs(np.array(image.GetOrigin()) - lps[:3, 3]).max() <= 1e-3
        assert np.abs(direction * image.GetSpacing() - lps[:3, :3]).max() <= 1e-3
        assert np.abs(sitk.GetArrayFromImage(image).transpose() - result.data).max() <= 1e-3


def test_it_says_what_it_is_and_names_nobody(scan, tmp_path, medsr):
    status, said = medsr("upscale", scan, tmp_path / "out", "--perception", 0.5, "--progress", False)
    assert status == 0
    files = sorted(tmp_path.glob("out/*"))
    assert [file.name for file in files] == [f"{n:04}.dcm" for n in range(1, 13)]
    one = pydicom.dcmread(files[0])
    version = bundle_identity(bundle_root("brain_mri_super_resolution"))
    assert "super-resolution" in one.SeriesDescription
    assert version in one.DerivationDescription and "perception 0.5" in one.DerivationDescription
    assert list(one.ImageType[:2]) == ["DERIVED", "SECONDARY"] and one.PatientName == SECRET
    medsr("dicom", "list", tmp_path / "out")
    assert SECRET not in said and not any("Doe" in file.name for file in tmp_path.rglob("*"))


def test_streaming_gives_the_same_series(scan, tmp_path, medsr):
    for mode in ("always", "never"):
        assert medsr("upscale", scan, tmp_path / mode, "--stream", mode, "--progress", False)[0] == 0
    whole, streamed = (read_volume(tmp_path / mode) for mode in ("never", "always"))
    assert whole.grid == streamed.grid
    # Rounding may fall on either side of a half.
    assert np.abs(whole.data - streamed.data).max() <= 1 and (whole.data != streamed.data).mean() <= 1e-3
    uids = [{pydicom.dcmread(f).SOPInstanceUID for f in (tmp_path / mode).iterdir()} for mode in ("never", "always")]
    assert uids[0] == uids[1]


def test_of_several_series_one_is_chosen_or_all(tmp_path, medsr):
    first, second = Planes(), Planes(n=4)
    write_series(tmp_path / "scans" / "a", first)
    write_series(tmp_path / "scans" / "b", second, SeriesNumber=8)
    status, said = medsr("upscale", tmp_path / "scans", tmp_path / "out")
    assert status == 2 and first.uid in said and second.uid in said and "--series" in said and SECRET not in said
    assert not (tmp_path / "out").exists()
    assert medsr("upscale", tmp_path / "scans", tmp_path / "out", "--series", 8, "--progress", False)[0] == 0
    assert len(list((tmp_path / "out").iterdir())) == 8
    assert medsr("upscale", tmp_path / "scans", tmp_path / "all", "--series", "all", "--progress", False)[0] == 0
    folders = {folder.name: len(list(folder.iterdir())) for folder in (tmp_path / "all").iterdir()}
    assert folders == {f"{first.uid}_sr": 12, f"{second.uid}_sr": 8}
    assert medsr("upscale", tmp_path / "scans", tmp_path / "x", "--series", "99")[0] == 2
    listed = medsr("dicom", "list", tmp_path / "scans")[1]
    assert first.uid in listed and "number 8" in listed and SECRET not in listed


def test_a_folder_without_series_is_said(tmp_path, medsr):
    status, said = medsr("dicom", "list", tmp_path)
    assert status == 2 and said.endswith("no DICOM series there\n")


def test_a_zip_and_one_file_stand_for_their_series(scan, tmp_path, medsr):
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for file in scan.iterdir():
            archive.write(file, f"any/{file.name}")
    expected = read_volume(scan)
    for spec in (tmp_path / "scan.zip", next(scan.iterdir())):
        volume = read_volume(find_volumes(spec)[0])
        assert volume.grid == expected.grid and np.array_equal(volume.data, expected.data)


def test_missing_slices_are_resampled_only_when_asked_and_said(tmp_path, medsr):
    scan = write_series(tmp_path / "scan", Planes(n=8), places=[0, 1, 2, 4, 5, 6, 7])
    status, said = medsr("upscale", scan, tmp_path / "out")
    assert status == 2 and "--uneven resample" in said and not (tmp_path / "out").exists()
    status, said = medsr("upscale", scan, tmp_path / "out", "--uneven", "resample", "--progress", False)
    assert status == 0 and "resampled to 8" in said
    assert len(list((tmp_path / "out").iterdir())) == 16
    assert "resampled to 8" in pydicom.dcmread(tmp_path / "out" / "0001.dcm").DerivationDescription


def test_of_a_short_stack_the_missing_slice_is_filled_in(tmp_path, medsr):
    scan = write_series(tmp_path / "scan", Planes(n=4), places=[0, 2, 3])
    status, said = medsr("dicom", "read", scan, tmp_path / "scan.nii")
    assert status == 2 and "slices 3.000 mm apart" in said
    assert medsr("dicom", "read", scan, tmp_path / "scan.nii", "--uneven", "resample")[0] == 0
    assert read_volume(tmp_path / "scan.nii").grid.shape[2] == 4


def test_a_volume_that_nothing_was_done_to_is_no_derived_series(scan, tmp_path, medsr):
    assert medsr("dicom", "read", scan, tmp_path / "scan.nii")[0] == 0
    status, said = medsr("dicom", "write", tmp_path / "scan.nii", tmp_path / "out", "--reference", scan)
    assert status == 2 and "no finer than the reference" in said and not (tmp_path / "out").exists()


def test_what_is_in_the_way_stays(scan, tmp_path, medsr):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for arguments in (
        ("upscale", scan, tmp_path / "out", "--progress", False),
        ("dicom", "write", scan, tmp_path / "out", "--reference", scan),
    ):
        status, said = medsr(*arguments)
        assert status == 2 and "not an empty folder" in said
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert medsr("upscale", scan, scan, "--progress", False)[0] == 2
    assert len(list(scan.iterdir())) == 6


def test_a_deviation_has_no_place_in_a_series(scan, tmp_path, medsr):
    status, said = medsr("upscale", scan, tmp_path / "out", "--ensemble", 2, "--uncertainty", True)
    assert status == 2 and "a DICOM series holds the image alone" in said and not (tmp_path / "out").exists()


def test_a_volume_file_becomes_a_series_by_a_reference_only(scan, tmp_path, medsr):
    assert medsr("upscale", scan, tmp_path / "sr.nii.gz", "--progress", False)[0] == 0
    status, said = medsr("dicom", "write", tmp_path / "sr.nii.gz", tmp_path / "out", "--reference", scan)
    assert status == 0, said
    nifti, series = read_volume(tmp_path / "sr.nii.gz"), read_volume(tmp_path / "out")
    assert corner_error_mm(nifti.grid, series.grid) <= 1e-3 and np.abs(nifti.data - series.data).max() <= 0.5 + 1e-3
    elsewhere = write_series(tmp_path / "elsewhere", Planes(origin=(300.0, 0.0, 0.0)))
    status, said = medsr("dicom", "write", tmp_path / "sr.nii.gz", tmp_path / "no", "--reference", elsewhere)
    assert status == 2 and "outside of the reference" in said and not (tmp_path / "no").exists()
    status, said = medsr(
        "dicom", "write", tmp_path / "sr.nii.gz", tmp_path / "no", "--reference", tmp_path / "sr.nii.gz"
    )
    assert status == 2 and "need one DICOM series" in said


def test_a_list_of_files_is_the_series_of_these_alone(scan, tmp_path):
    write_series(tmp_path / "other", Planes())
    files = sorted(scan.iterdir(), key=lambda file: pydicom.dcmread(file).ImagePositionPatient[2])
    volume, part = read_volume(scan), open_series(files[:4])
    assert np.array_equal(part.read(0, 4), volume.data[..., :4]) and np.array_equal(
        part.grid.affine, volume.grid.affine
    )
    with pytest.raises(InputError, match="files: 2 series"):
        open_series([*files, *(tmp_path / "other").iterdir()])


def test_a_lazy_series_is_the_whole_one(scan):
    volume = read_volume(scan)
    with open_volume(scan) as lazy:
        n = lazy.grid.shape[lazy.slow_axis]
        parts = [lazy.read(k, k + 1) for k in range(n)]
    canonical = volume.grid.canonical()[0]
    assert lazy.grid == canonical
    assert np.concatenate(parts, axis=lazy.slow_axis).sum() == pytest.approx(volume.data.sum())
    assert read_info(scan).shape == volume.shape


def test_what_could_not_be_written_is_refused_before_anything_is_computed(scan, tmp_path, medsr, monkeypatch):
    monkeypatch.setattr("medsr_monai.upscaling.StreamingInferer.__call__", lambda *_: pytest.fail("computed"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    no_study = write_series(tmp_path / "none", Planes(), StudyInstanceUID="../x")
    for source, out, what in (
        (scan, "full", "not an empty folder"),
        (scan, "sr.nii.gzz", "unknown output suffix"),
        (no_study, "out", "StudyInstanceUID is no UID"),
    ):
        status, said = medsr("upscale", source, tmp_path / out, "--progress", False)
        assert status == 2 and what in said, said


def test_what_a_killed_run_left_beside_the_scan_is_no_series(scan, tmp_path, medsr):
    write_series(scan / ".medsr-0123456789ab.tmp", KINDS["sagittal MR"], places=[0, 1])
    status, said = medsr("dicom", "list", scan)
    assert status == 0 and said.count("\n") == 1, said
