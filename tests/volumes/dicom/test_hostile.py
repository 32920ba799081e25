"""Damaged and malicious input: one clear line each, nothing written anywhere, and nothing large allocated."""

from __future__ import annotations

import os
import stat
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import ENHANCED_CT, SECRET, Planes, classic_slice, enhanced, save, write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from medsr_monai.system.errors import InputError
from medsr_monai.volumes import find_volumes, read_info, read_volume
from medsr_monai.volumes.dicom import find_series, is_dicom, members, open_series, series_path

# pydicom warns the tests of what they write.
pytestmark = pytest.mark.filterwarnings("ignore:.*for VR:UserWarning")


def refused(path: Path, text: str) -> None:
    """Opened and read, it is refused in one line that names the file, with little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=text) as caught:
            volume = open_series(path)
            volume.read(0, volume.grid.shape[2])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert "\n" not in message and SECRET not in message
    assert str(path) in message
    assert peak < 8 << 20


def one_slice(tmp_path: Path, **changes) -> Path:
    dataset = classic_slice(Planes(n=1), 0)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return save(dataset, tmp_path / "one.dcm")


@pytest.mark.parametrize("missing", [1, 50, 198, 205])  # all pixels are 198 bytes, before them 12 of their tag
def test_truncated_pixel_data(tmp_path, missing):
    path = one_slice(tmp_path)
    path.write_bytes(path.read_bytes()[:-missing])
    refused(path, "truncated")


def test_a_header_that_ends_early(tmp_path):
    path = one_slice(tmp_path)
    whole = path.read_bytes()
    for length in range(132, len(whole) - 198, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"one\.dcm: .*(damaged|no |truncated|unknown)"):
            open_series(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_bomb_that_claims_the_largest_image(tmp_path, compressed):
    dataset = classic_slice(Planes(n=1), 0)
    if compressed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.Rows = dataset.Columns = 65535
    path = save(dataset, tmp_path / "bomb.dcm")
    refused(path, "claims 65535x65535 compressed pixels" if compressed else "65535x65535 pixels in 1 frames are")


def test_a_bomb_of_frames(tmp_path):
    dataset = enhanced(Planes(sop_class=ENHANCED_CT))
    dataset.NumberOfFrames = 2**31 - 1
    refused(save(dataset, tmp_path / "bomb.dcm"), "11x9 pixels in 2147483647 frames; a damaged header")
    dataset.NumberOfFrames = 1 << 16
    refused(save(dataset, tmp_path / "bomb.dcm"), "65536 frames are 12976128 bytes")


def test_a_bomb_within_the_codestream(tmp_path):
    dataset = classic_slice(Planes(n=1, rows=36, columns=40), 0)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    at = dataset.PixelData.index(b"\xff\x4f\xff\x51") + 8
    claims = b"\x00\x00\xff\xff" * 2
    dataset.PixelData = dataset.PixelData[:at] + claims + dataset.PixelData[at + 8 :]
    refused(save(dataset, tmp_path / "bomb.dcm"), "its compressed image has 65535x65535 pixels, its header says 40x36")


def test_compressed_data_that_are_none(tmp_path):
    dataset = classic_slice(Planes(n=1, rows=36, columns=40), 0)
    for syntax in (JPEG2000Lossless, RLELossless, JPEGBaseline8Bit):
        dataset.PixelData = pydicom.encaps.encapsulate([bytes(range(256)) * 3])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = syntax
        refused(save(dataset, tmp_path / "noise.dcm"), "noise.dcm: (damaged|its compressed image)")


def test_compressed_data_cut_off(tmp_path):
    dataset = classic_slice(Planes(n=1, rows=36, columns=40), 0)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    path = save(dataset, tmp_path / "cut.dcm")
    for missing in (4, 40):
        path.write_bytes(path.read_bytes()[:-missing])
        refused(path, "truncated")


def test_wrong_transfer_syntaxes(tmp_path):
    path = one_slice(tmp_path)
    whole, plain = path.read_bytes(), b"1.2.840.10008.1.2.1\0"
    for syntax in (
        b"1.2.840.10008.1.2.5\0",
        b"1.2.840.10008.1.2\0\0\0",
        b"1.2.840.10008.1.2.2\0",
        b"1.2.3.4.5.6.7.8.9.1\0",
    ):
        assert whole.count(plain) == 1
        path.write_bytes(whole.replace(plain, syntax))
        with pytest.raises(InputError, match=r"one\.dcm: ") as caught:
            open_series(path)
        assert "\n" not in str(caught.value)


def test_a_deflated_file_is_not_inflated(tmp_path):
    path = Path(get_testdata_file("image_dfl.dcm", download=False))
    with pytest.raises(InputError, match="deflated as a whole; convert it first"):
        open_series(path)


@pytest.mark.parametrize("uid", ["../../evil", "1.2.3/../4", "1.2.3\0/etc", "1" * 65, "..", "1..2"])
def test_uids_that_are_paths(tmp_path, uid):
    path = one_slice(tmp_path, SeriesInstanceUID=uid)
    with pytest.raises(InputError, match="SeriesInstanceUID is no UID"):
        find_series(path)
    with pytest.raises(InputError, match="named by its UID"):
        series_path(tmp_path, uid)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", ["1", "2"]),
        ("ImagePositionPatient", ["1", "2", "nan"]),
        ("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"]),
        ("ImageOrientationPatient", ["0", "0", "0", "0", "0", "0"]),
        ("PixelSpacing", ["0", "1"]),
        ("PixelSpacing", ["-1", "1"]),
        ("PixelSpacing", None),
        ("RescaleSlope", "0"),
        ("RescaleSlope", "inf"),
        ("BitsAllocated", 12),
        ("BitsStored", 17),
        ("HighBit", 40),
        ("SamplesPerPixel", 3),
        ("PhotometricInterpretation", "PALETTE COLOR"),
        ("ModalityLUTSequence", [pydicom.Dataset()]),
        ("Rows", 0),
        ("NumberOfFrames", "-4"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]),
    ],
)
def test_impossible_headers(tmp_path, keyword, value):
    path = one_slice(tmp_path, **{keyword: value})
    with pytest.raises(InputError, match=r"one\.dcm: ") as caught:
        open_series(path)
    assert "\n" not in str(caught.value) and "Doe" not in str(caught.value)


def test_a_value_that_is_a_name_is_not_repeated(tmp_path, caplog, recwarn, capfd):
    path = one_slice(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"-1024.0 ", b"Doe^Jane"))
    with pytest.raises(InputError, match="RescaleIntercept") as caught:
        open_series(path)
    assert "Doe" not in str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert not [warning for warning in recwarn if "Doe" in str(warning.message)]
    assert caught.value.__cause__ is None


def test_float_pixels_are_refused(tmp_path):
    dataset = classic_slice(Planes(n=1), 0)
    dataset.FloatPixelData = np.zeros(99, "<f4").tobytes()
    del dataset.PixelData
    refused(save(dataset, tmp_path / "float.dcm"), "float pixel data")


def zipped(folder: Path, target: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(target, "w", compression) as packed:
        for file in sorted(folder.rglob("*")):
            packed.write(file, file.relative_to(folder))
    return target


def test_a_zip_is_read_without_unpacking(tmp_path):
    planes = Planes()
    write_series(tmp_path / "in" / "deep", planes)
    (tmp_path / "in" / "readme.txt").write_text("no DICOM")
    packed = zipped(tmp_path / "in", tmp_path / "study.zip")
    before = sorted(tmp_path.rglob("*"))
    assert is_dicom(packed)
    for path in (packed, series_path(packed, planes.uid)):
        assert is_dicom(path)
        volume = open_series(path)
        np.testing.assert_allclose(volume.grid.affine, planes.affine, atol=1e-9)
        assert np.array_equal(volume.read(0, 6), planes.intensities())
    assert sorted(tmp_path.rglob("*")) == before


def test_an_enhanced_file_in_a_zip(tmp_path):
    planes = Planes(sop_class=ENHANCED_CT)
    save(enhanced(planes, [5, 4, 3, 2, 1, 0]), tmp_path / "in" / "multi.dcm")
    assert np.array_equal(open_series(zipped(tmp_path / "in", tmp_path / "x.zip")).read(0, 6), planes.intensities())


@pytest.mark.parametrize("name", ["../evil.dcm", "a/../../evil.dcm", "/evil.dcm", "..\\evil.dcm", "C:/evil.dcm"])
def test_a_zip_whose_names_lead_outside(tmp_path, name):
    slice_path = one_slice(tmp_path / "in")
    packed = tmp_path / "evil.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(name, slice_path.read_bytes())
    before = sorted(tmp_path.rglob("*"))
    refused(packed, "leads out of the archive")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_with_a_link(tmp_path):
    packed, link = tmp_path / "link.zip", zipfile.ZipInfo("link.dcm")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(link, "/etc/passwd")
    refused(packed, "symbolic link")


def test_a_zip_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "_SUSPICIOUS_BYTES", 1 << 20)
    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros.dcm", bytes(2 << 20))
    refused(packed, "a zip bomb or damaged")
    monkeypatch.setattr(members, "MAX_ZIP_MEMBERS", 0)
    refused(packed, "1 members, more than 0")


def test_a_zip_that_claims_more_than_any(tmp_path):
    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("one.dcm", b"x" * 100)
    content = packed.read_bytes()
    place = content.index(b"PK\x01\x02") + 24
    packed.write_bytes(content[:place] + b"\xfe\xff\xff\xff" + content[place + 4 :])
    refused(packed, "claims 4294967294 unpacked bytes")


def test_a_zip_packed_by_another_method(tmp_path):
    write_series(tmp_path / "in", Planes(n=1))
    refused(zipped(tmp_path / "in", tmp_path / "x.zip", zipfile.ZIP_BZIP2), "unusual method")


def test_a_damaged_zip(tmp_path):
    write_series(tmp_path / "in", Planes())
    packed = zipped(tmp_path / "in", tmp_path / "x.zip", zipfile.ZIP_STORED)
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 0xFF
    packed.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.zip: "):
        volume = open_series(packed)
        volume.read(0, volume.grid.shape[2])
    packed.write_bytes(content[:-10])
    refused(packed, "damaged zip")


def test_an_encrypted_zip(tmp_path):
    write_series(tmp_path / "in", Planes(n=1))
    packed = zipped(tmp_path / "in", tmp_path / "x.zip")
    content = bytearray(packed.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    packed.write_bytes(content)
    refused(packed, "encrypted")


def test_what_is_no_dicom(tmp_path):
    (tmp_path / "text.dcm").write_text("no DICOM")
    (tmp_path / "empty").mkdir()
    assert not is_dicom(tmp_path) and not is_dicom(tmp_path / "text.dcm") and not is_dicom(tmp_path / "absent")
    refused(tmp_path / "text.dcm", "neither DICOM nor a zip")
    refused(tmp_path / "empty", "holds no DICOM image series")
    refused(tmp_path / "absent", "no such file or folder")
    refused(tmp_path / "empty" / "1.2.3", "holds no DICOM|no series")


def test_pipes_are_passed_over(tmp_path):
    planes = Planes()
    write_series(tmp_path, planes)
    os.mkfifo(tmp_path / "pipe.dcm")
    assert find_series(tmp_path)[0].n_images == 6


def test_other_objects_are_passed_over(tmp_path):
    for name in ("reportsi.dcm", "rtdose.dcm", "liver_1frame.dcm", "waveform_ecg.dcm", "rtplan.dcm", "DICOMDIR"):
        source = Path(get_testdata_file(name, download=False))
        (tmp_path / name).write_bytes(source.read_bytes())
    assert find_series(tmp_path) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.integers(132, 5000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 4000),
)
@pytest.mark.parametrize("kind", ["classic", "compressed", "enhanced"])
def test_any_damage_is_an_input_error_or_harmless(tmp_path, kind, places, cut):
    dataset = enhanced(Planes(sop_class=ENHANCED_CT, n=2)) if kind == "enhanced" else classic_slice(Planes(n=1), 0)
    if kind == "compressed":
        dataset.compress(RLELossless, generate_instance_uid=False)
    path = save(dataset, tmp_path / "fuzzed.dcm")
    content = bytearray(path.read_bytes())
    for place, value in places:
        content[place % len(content)] = value
    path.write_bytes(content[: max(140, len(content) - cut)] if cut % 3 == 0 else content)
    try:
        volume = open_series(path)
        assert np.isfinite(volume.read(0, volume.grid.shape[2])).all()
    except InputError as error:
        assert "\n" not in str(error)


def test_nothing_that_was_read_shows_the_patient_when_it_is_printed(tmp_path):
    folder = write_series(tmp_path / "scan", Planes())
    (source,) = find_volumes(folder)
    info = read_info(source)
    shown = [repr(one) for one in (source, info, info.series, read_volume(source))]
    assert not any(SECRET in text or "1234" in text for text in shown)
