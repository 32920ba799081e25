"""Derived series: what is written is what is read back, and the headers say what it is."""

from __future__ import annotations

import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import CT, MR, OBLIQUE, PET, SAGITTAL, SECRET, Planes, classic_slice, save, write_derived, write_series
from dicom_validators import assert_valid
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.transforms import LoadImage
from pydicom.data import get_testdata_file
from scipy.spatial.transform import Rotation

from medsr_monai.geometry import Grid, reorient
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import SlabWriter, read_info
from medsr_monai.volumes.dicom import DerivedSeriesWriter, DicomVolume, open_series

ALGORITHM = "brain_mri_super_resolution 0.3.0, consistency exact, profile box"


def source(tmp_path: Path, **changes) -> DicomVolume:
    planes = Planes(**changes)
    return open_series(write_series(tmp_path / "source", planes))


def new_folder(tmp_path: Path, name: str = "derived") -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def upscaled(volume: DicomVolume, factors=(2, 1, 3)) -> tuple[np.ndarray, Grid]:
    voxels = volume.read(0, volume.grid.shape[2])
    for axis, factor in enumerate(factors):
        voxels = np.repeat(voxels, factor, axis=axis)
    return voxels + np.float32(0.25), volume.grid.upscaled(factors)


KINDS = {
    "CT": {},
    "sagittal MR": {"sop_class": MR, "inter": 0.0, "cosines": SAGITTAL},
    "oblique MR": {"sop_class": MR, "inter": 0.0, "cosines": OBLIQUE},
    "MR with a slope": {"sop_class": MR, "inter": 5.0, "slope": 0.37},
    "PET": {"sop_class": PET, "inter": 0.0, "slope": 0.5},
    "tilted CT": {"shear": (0.0, 0.9, 0.0)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_valid_and_reads_back_in_place(tmp_path, kind):
    volume = source(tmp_path, **KINDS[kind])
    voxels, grid = upscaled(volume)
    folder = new_folder(tmp_path)
    writer = write_derived(folder, voxels, grid, volume, ALGORITHM)
    back = open_series(folder)
    np.testing.assert_allclose(back.grid.affine, grid.affine, atol=1e-6)
    stored = volume.storage
    expected = np.rint((voxels - stored.inter) / stored.slope) * stored.slope + stored.inter
    np.testing.assert_allclose(back.read(0, grid.shape[2]), expected, rtol=1e-6, atol=1e-3)
    assert (writer.n_clipped, back.uid) == (0, writer.uid)
    assert_valid(folder, *sorted((tmp_path / "source").iterdir()))


@pytest.mark.parametrize("kind", ["CT", "sagittal MR", "oblique MR"])
def test_others_read_it_in_place(tmp_path, kind):
    volume = source(tmp_path, **KINDS[kind])
    voxels, grid = upscaled(volume)
    folder = new_folder(tmp_path)
    write_derived(folder, voxels, grid, volume, ALGORITHM)
    image = LoadImage(reader="PydicomReader", image_only=True)(folder)
    np.testing.assert_allclose(image.affine, grid.affine, atol=1e-3)
    assert np.array_equal(image.numpy(), np.rint(voxels))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    itk = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(itk).T, np.rint(voxels))
    to_ras = np.array([-1, -1, 1])
    np.testing.assert_allclose(to_ras * itk.GetOrigin(), grid.affine[:3, 3], atol=1e-3)
    itk_axes = np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing()
    np.testing.assert_allclose(to_ras[:, None] * itk_axes, grid.affine[:3, :3], atol=1e-3)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 9)] * 3),
    shear=st.tuples(*[st.floats(-0.4, 0.4)] * 2),
    offset=st.tuples(*[st.floats(-900, 900)] * 3),
    is_flipped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_grid_reads_back(tmp_path_factory, angles, spacing, shear, offset, is_flipped, seed):
    tmp_path = tmp_path_factory.mktemp("grid")
    volume = source(tmp_path, n=2)
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    axes[:, 2] = (axes[:, 2] + axes[:, :2] @ shear) * (-1 if is_flipped else 1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * spacing, offset
    grid = Grid((5, 4, 3), affine)
    voxels = np.random.default_rng(seed).uniform(-2000, 3000, grid.shape).astype(np.float32)
    folder = new_folder(tmp_path)
    writer = DerivedSeriesWriter(folder, volume, grid, ALGORITHM)
    writer.write(voxels[..., :1])
    writer.write(voxels[..., 1:])
    writer.finish()
    back = open_series(folder)
    read = back.read(0, 3)
    if is_flipped:  # read in ascending order along row x column
        grid, voxels = grid.reoriented(np.array([[0, 1], [1, 1], [2, -1]])), voxels[..., ::-1]
    np.testing.assert_allclose(back.grid.affine, grid.affine, atol=1e-6)
    assert np.array_equal(read, np.rint(voxels))
    header = pydicom.dcmread(folder / "0002.dcm")
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        assert all(len(number.original_string) <= 16 for number in header[keyword].value)


def test_the_header_says_what_it_is(tmp_path):
    volume = replace(source(tmp_path), notes=("made for a test",))
    voxels, grid = upscaled(volume, (1, 1, 2))
    folder = new_folder(tmp_path)
    writer = write_derived(folder, voxels, grid, volume, ALGORITHM)
    assert [path.name for path in sorted(folder.iterdir())] == [f"{k:04d}.dcm" for k in range(1, 13)]
    headers = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    original = pydicom.dcmread(volume.planes[0].member.path)
    first = headers[0]
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "KVP"):
        assert first[keyword] == original[keyword]
    assert first.SeriesInstanceUID == writer.uid != original.SeriesInstanceUID
    assert len({header.SOPInstanceUID for header in headers}) == 12
    assert list(first.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert first.SeriesNumber == original.SeriesNumber + 1000
    assert first.SeriesDescription == "AI super-resolution brain_mri_super_resolution 0.3.0"  # no half of a setting
    for said in ("AI super-resolution", ALGORITHM, "made for a test", "research use only"):
        assert first.DerivationDescription.count(said) == 1
    assert first.DerivationCodeSequence[0].CodeValue == "113085"
    assert first.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert first.ReferencedSeriesSequence[0].SeriesInstanceUID == volume.uid
    assert first.ContributingEquipmentSequence[-1].PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    between = {item.ReferencedSOPInstanceUID for item in headers[5].SourceImageSequence}
    assert between == {plane.uid for plane in volume.planes[2:4]}
    assert (first.BitsAllocated, first.BitsStored, first.PixelRepresentation) == (16, 16, 1)
    assert (first.RescaleSlope, first.RescaleIntercept, first.SpacingBetweenSlices, first.SliceThickness) == (
        1,
        0,
        1.5,
        1.5,
    )
    for keyword in ("WindowCenter", "WindowWidth", "SmallestImagePixelValue", "LargestImagePixelValue"):
        assert keyword not in first
    assert not any(element.tag.is_private for element in first)


def test_a_pet_keeps_the_time_from_which_its_uptake_is_counted(tmp_path):
    volume = source(tmp_path, **KINDS["PET"])
    voxels, grid = upscaled(volume, (1, 1, 2))
    folder = new_folder(tmp_path)
    write_derived(folder, voxels, grid, volume, ALGORITHM)
    third = pydicom.dcmread(folder / "0003.dcm")
    assert (third.SeriesDate, third.SeriesTime, third.Units) == ("20200102", "101500", "BQML")
    assert (third.NumberOfSlices, third.ImageIndex) == (12, 3)


def test_the_same_again_has_the_same_uids(tmp_path):
    volume = source(tmp_path, n=2)
    voxels, grid = upscaled(volume, (1, 1, 1))

    def uids(name: str, algorithm: str = ALGORITHM, to: Grid = grid) -> list[str]:
        folder = new_folder(tmp_path, name)
        uid = write_derived(folder, voxels, to, volume, algorithm).uid
        return [uid, *(pydicom.dcmread(path).SOPInstanceUID for path in sorted(folder.iterdir()))]

    first = uids("a")
    assert uids("b") == first
    shifted = grid.affine.copy()
    shifted[0, 3] += 0.5
    assert not set(first) & set(uids("c", "another 1.0")) and not set(first) & set(
        uids("d", to=Grid(grid.shape, shifted))
    )


def test_overshoot_below_air_is_kept_and_what_does_not_fit_is_counted(tmp_path):
    volume = source(tmp_path, n=2)
    voxels = np.zeros(volume.grid.shape, dtype=np.float32)
    voxels[0, 0] = (-1500.4, 0.5)
    voxels[1, 0] = (1.5, -2.5)
    voxels[2, 0] = (40000.0, -33000.0)
    folder = new_folder(tmp_path)
    assert write_derived(folder, voxels, volume.grid, volume, ALGORITHM).n_clipped == 2
    read = open_series(folder).read(0, 2)
    assert read[:3, 0].tolist() == [[-1500, 0], [2, -2], [32767, -32768]]  # halves to even


def test_unsigned_sixteen_bits_stay_unsigned(tmp_path):
    dataset = classic_slice(Planes(sop_class=MR, n=1, inter=0.0), 0)
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.full((9, 11), 60000, "<u2").tobytes()
    save(dataset, tmp_path / "source" / "one.dcm")
    volume = open_series(tmp_path / "source")
    assert volume.storage.dtype == np.uint16
    folder = new_folder(tmp_path)
    writer = write_derived(
        folder, volume.read(0, 1) - np.float32(60001) * (np.arange(9) == 0)[:, None], volume.grid, volume, "a 1"
    )
    back = open_series(folder)
    assert back.read(0, 1)[3, 3, 0] == 60000 and back.read(0, 1)[0, 0, 0] == 0
    assert writer.n_clipped == 11


def test_unsigned_values_that_int16_holds_leave_room_for_undershoot(tmp_path):
    dataset = classic_slice(Planes(sop_class=MR, n=1, inter=0.0), 0)
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.full((9, 11), 4000, "<u2").tobytes()
    save(dataset, tmp_path / "source" / "one.dcm")
    volume = open_series(tmp_path / "source")
    voxels = volume.read(0, 1) - np.float32(4017) * (np.arange(9) == 0)[:, None]
    folder = new_folder(tmp_path)
    assert write_derived(folder, voxels, volume.grid, volume, "a 1").n_clipped == 0
    np.testing.assert_array_equal(open_series(folder).read(0, 1), voxels)
    assert pydicom.dcmread(folder / "0001.dcm").PixelRepresentation == 1
    assert_valid(folder)


def test_a_source_of_more_than_sixteen_bits_gets_a_slope(tmp_path):
    dataset = classic_slice(Planes(sop_class=MR, n=1, inter=0.0), 0)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 32, 32, 31, 0
    dataset.PixelData = (np.arange(99, dtype="<u4") * 40_000_000).tobytes()
    save(dataset, tmp_path / "source" / "one.dcm")
    volume = open_series(tmp_path / "source")
    folder = new_folder(tmp_path)
    voxels = volume.read(0, 1)
    assert write_derived(folder, voxels, volume.grid, volume, "a 1").n_clipped == 0
    np.testing.assert_allclose(open_series(folder).read(0, 1), voxels, atol=2**32 / 32767)


def test_a_volume_of_other_axes_is_turned_to_the_references(tmp_path):
    volume = source(tmp_path, cosines=SAGITTAL, sop_class=MR, inter=0.0)
    canonical, turn = volume.grid.canonical()
    folder = new_folder(tmp_path)
    write_derived(folder, reorient(volume.read(0, 6), turn), canonical, volume, ALGORITHM)
    back = open_series(folder)
    np.testing.assert_allclose(back.grid.affine, volume.grid.affine, atol=1e-6)
    assert np.array_equal(back.read(0, 6), volume.read(0, 6))


@pytest.mark.parametrize("name", ["bigendian", "implicit", "jp2klossless", "RLE", "jpeg_ls_lossless"])
def test_real_files_of_other_syntaxes_are_derived_from(tmp_path, name):
    target = tmp_path / "source" / "one.dcm"
    target.parent.mkdir()
    target.write_bytes(Path(get_testdata_file(f"MR_small_{name}.dcm", download=False)).read_bytes())
    volume = open_series(target)
    voxels, grid = upscaled(volume, (1, 1, 2))
    folder = new_folder(tmp_path)
    write_derived(folder, voxels, grid, volume, ALGORITHM)
    assert np.array_equal(open_series(folder).read(0, 2), np.rint(voxels))
    plain = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    derived = pydicom.dcmread(folder / "0001.dcm")
    for keyword in ("PatientID", "StudyInstanceUID", "EchoTime", "ScanningSequence"):
        assert derived[keyword].value == plain[keyword].value


def test_damaged_elements_are_left_out_and_said(tmp_path, caplog):
    folder = tmp_path / "source"
    write_series(folder, Planes(n=2), ExposureTime="1234")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"IS\x04\x001234", b"IS\x04\x00D^Jo"))
    volume = open_series(folder)
    writer = write_derived(new_folder(tmp_path), volume.read(0, 2), volume.grid, volume, ALGORITHM)
    assert writer.n_damaged == 1 and "1 damaged header element left out" in caplog.text
    assert "ExposureTime" not in pydicom.dcmread(tmp_path / "derived" / "0001.dcm")


def test_the_tilt_of_the_source_is_kept_only_for_its_planes(tmp_path):
    folder = tmp_path / "source"
    write_series(folder, Planes(), GantryDetectorTilt="10")
    volume = open_series(folder)
    write_derived(new_folder(tmp_path, "a"), volume.read(0, 6), volume.grid, volume, ALGORITHM)
    assert pydicom.dcmread(tmp_path / "a" / "0001.dcm").GantryDetectorTilt == 10
    turned = volume.grid.reoriented(np.array([[1, 1], [2, 1], [0, 1]]))
    writer = DerivedSeriesWriter(new_folder(tmp_path, "b"), volume, turned, ALGORITHM)
    writer.write(np.zeros(turned.shape, dtype=np.float32))
    assert "GantryDetectorTilt" not in pydicom.dcmread(tmp_path / "b" / "0001.dcm")


def test_texts_that_dicom_cannot_hold_are_made_plain(tmp_path):
    volume = source(tmp_path, n=1)
    write_derived(new_folder(tmp_path), volume.read(0, 1), volume.grid, volume, "a\\b\nü 1.0 " + "x" * 2000)
    header = pydicom.dcmread(tmp_path / "derived" / "0001.dcm")
    assert header.SeriesDescription.startswith("AI super-resolution a/b ? 1.0")
    assert len(header.SeriesDescription) <= 64 and len(header.DerivationDescription) <= 1024


def test_what_cannot_be_written_is_refused(tmp_path):
    volume = source(tmp_path, n=2)
    skewed = volume.grid.affine.copy()
    skewed[:3, 1] += 0.2 * skewed[:3, 0]
    with pytest.raises(InputError, match="not at a right angle"):
        DerivedSeriesWriter(tmp_path, volume, Grid((3, 3, 3), skewed), ALGORITHM)
    for planes, said in (
        (np.full(volume.grid.shape, np.nan), "198 voxels to write are NaN"),
        (np.zeros((1, 2, 3)), r"shape \(1, 2, 3\)"),
        (np.zeros((11, 9, 1)), "1 planes of .* were written"),
    ):
        with (
            pytest.raises(ValueError, match=said),
            SlabWriter(tmp_path / "out", volume.grid, like=read_info(tmp_path / "source")) as sink,
        ):
            sink.write(planes)
        assert not (tmp_path / "out").exists()
    writer = DerivedSeriesWriter(tmp_path, volume, volume.grid, ALGORITHM)
    writer.write(np.zeros((11, 9, 1)))
    with pytest.raises(InputError, match=r"0002\.dcm: cannot be written"):
        writer.folder = tmp_path / "absent"
        writer.write(np.zeros((11, 9, 1)))


def test_a_kind_without_derived_series_is_refused(tmp_path):
    secondary = "1.2.840.10008.5.1.4.1.1.7"
    write_series(tmp_path / "source", Planes(n=2), SOPClassUID=secondary)
    volume = open_series(tmp_path / "source")
    with pytest.raises(InputError, match="only CT, MR and PET have derived series"):
        DerivedSeriesWriter(tmp_path, volume, volume.grid, ALGORITHM)


def test_notes_and_names_hold_no_patient(tmp_path, caplog):
    volume = source(tmp_path, n=2)
    writer = write_derived(new_folder(tmp_path), volume.read(0, 2), volume.grid, volume, ALGORITHM)
    said = [caplog.text, *volume.notes, *(path.name for path in writer.folder.iterdir())]
    assert not any(part in text for text in said for part in (SECRET, "Doe", "1234"))
    assert CT in str(pydicom.dcmread(writer.folder / "0001.dcm").file_meta.MediaStorageSOPClassUID)


def test_what_holds_for_one_slice_only_is_not_said_of_all(tmp_path):
    planes = Planes(n=4)
    for k in range(4):
        dataset = classic_slice(planes, k)
        dataset.XRayTubeCurrent, dataset.AcquisitionTime, dataset.AcquisitionNumber = 100 + k, f"10{k:02d}00", k
        dataset.TablePosition, dataset.SpiralPitchFactor, dataset.ScanOptions = float(k), 1.0, "HELICAL"
        dataset.PatientName, dataset.LossyImageCompression = f"{SECRET} {k}", "00"
        if k == 2:
            dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", "10"
            dataset.LossyImageCompressionMethod = "ISO_10918_1"
        save(dataset, tmp_path / "source" / f"{k}.dcm")
    volume = open_series(tmp_path / "source")
    folder = new_folder(tmp_path)
    write_derived(folder, volume.read(0, 4), volume.grid, volume, ALGORITHM)
    last = pydicom.dcmread(folder / "0004.dcm")
    assert not {"XRayTubeCurrent", "AcquisitionTime", "TablePosition"} & {element.keyword for element in last}
    assert (last.SpiralPitchFactor, last.ScanOptions, last.KVP, last.AcquisitionNumber) == (1, "HELICAL", 120, None)
    assert last.PatientName == f"{SECRET} 0"
    assert (last.LossyImageCompression, last.LossyImageCompressionRatio) == ("01", 10)
    assert_valid(folder)


@pytest.mark.parametrize("uid", ["../../evil", "", "1..2"])
def test_a_source_of_no_study_is_refused(tmp_path, uid):
    volume = open_series(write_series(tmp_path / "source", Planes(n=2), StudyInstanceUID=uid))
    with pytest.raises(InputError, match=r"no StudyInstanceUID|StudyInstanceUID is no UID"):
        DerivedSeriesWriter(new_folder(tmp_path), volume, volume.grid, ALGORITHM)
    assert not list((tmp_path / "derived").iterdir())


def test_a_full_disk_is_said(tmp_path):
    volume = source(tmp_path, columns=64, rows=64)
    folder, limits = new_folder(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = DerivedSeriesWriter(folder, volume, volume.grid, ALGORITHM)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError, match=r"0001\.dcm: cannot be written \(File too large\)"):
            writer.write(volume.read(0, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
