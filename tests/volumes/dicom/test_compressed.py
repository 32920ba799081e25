"""Compressed and unusual transfer syntaxes give the voxels of the plain one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import ENHANCED_CT, MR, Planes, classic_slice, enhanced, save, write_series
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom import decoder_process, decoding, open_series
from medsr_monai.volumes.dicom.codestream import codestream_shape
from medsr_monai.volumes.dicom.headers import read_header
from medsr_monai.volumes.dicom.members import Member, Opener
from medsr_monai.volumes.dicom.pixels import find_pixels

gdcm = pytest.importorskip("gdcm", reason="python-gdcm is not installed")


def by_gdcm(plain: Path, out: Path, syntax: int) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(out))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def by_pydicom(plain: Path, out: Path, syntax: str) -> None:
    dataset = pydicom.dcmread(plain)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(out)


def by_dcmtk(plain: Path, out: Path, option: str) -> None:
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("dcmcjpeg is not installed (apt install dcmtk)")
    subprocess.run(["dcmcjpeg", option, "+un", plain, out], check=True)


def rewritten(plain: Path, out: Path, syntax: str) -> None:
    dataset = pydicom.dcmread(plain)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        out,
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )


KINDS = {
    "JPEG lossless, gdcm": (by_gdcm, gdcm.TransferSyntax.JPEGLosslessProcess14_1, ".70"),
    "JPEG lossless any predictor, dcmtk": (by_dcmtk, "+el", ".57"),
    "JPEG lossless, dcmtk": (by_dcmtk, "+e1", ".70"),
    "JPEG-LS": (by_gdcm, gdcm.TransferSyntax.JPEGLSLossless, ".80"),
    "JPEG 2000": (by_gdcm, gdcm.TransferSyntax.JPEG2000Lossless, ".90"),
    "JPEG 2000, openjpeg": (by_pydicom, JPEG2000Lossless, ".90"),
    "RLE": (by_pydicom, RLELossless, ".2.5"),
    "implicit": (rewritten, ImplicitVRLittleEndian, "1.2"),
    "big endian": (rewritten, ExplicitVRBigEndian, "1.2.2"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inter", [-1024.0, 1024.0])  # stored numbers above zero, and negative ones
def test_a_lossless_series_is_the_plain_one(tmp_path, kind, inter):
    planes = Planes(n=3, rows=36, columns=40, inter=inter)
    write_series(tmp_path / "plain", planes)
    (tmp_path / "packed").mkdir()
    encode, option, ending = KINDS[kind]
    for path in (tmp_path / "plain").iterdir():
        encode(path, tmp_path / "packed" / path.name, option)
        assert pydicom.dcmread(tmp_path / "packed" / path.name).file_meta.TransferSyntaxUID.endswith(ending)
    volume = open_series(tmp_path / "packed")
    assert np.array_equal(volume.read(0, 3), planes.intensities())


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_frames_are_read_one_by_one(tmp_path, syntax):
    planes = Planes(sop_class=ENHANCED_CT, rows=36, columns=40)
    plain = save(enhanced(planes, [3, 1, 0, 2, 5, 4]), tmp_path / "plain.dcm")
    by_pydicom(plain, tmp_path / "packed.dcm", syntax)
    volume = open_series(tmp_path / "packed.dcm")
    assert np.array_equal(volume.read(0, 6), planes.intensities())
    assert np.array_equal(volume.read(4, 5), planes.intensities([4]))


@pytest.mark.parametrize("has_table", [True, False])
def test_frames_in_several_fragments_need_a_table(tmp_path, has_table):
    planes = Planes(sop_class=ENHANCED_CT, n=2, rows=36, columns=40)
    dataset = enhanced(planes)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=2))
    assert not any(len(frame) % 2 for frame in frames)
    dataset.PixelData = pydicom.encaps.encapsulate(frames, fragments_per_frame=2, has_bot=has_table)
    path = save(dataset, tmp_path / "fragments.dcm")
    if has_table:
        assert np.array_equal(open_series(path).read(0, 2), planes.intensities())
    else:
        with pytest.raises(InputError, match="4 pieces of compressed data for 2 frames"):
            open_series(path)


def test_bits_that_do_not_count_are_cleared(tmp_path):
    planes = Planes(n=1, inter=-2000.0)
    dataset = classic_slice(planes, 0)
    words = np.frombuffer(dataset.PixelData, "<u2").copy()
    assert words.max() < 1 << 12
    words[::3] |= 0x8000  # an overlay in the highest bit, as old files keep them
    dataset.PixelData = words.tobytes()
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    save(dataset, tmp_path / "overlay.dcm")
    assert np.array_equal(open_series(tmp_path).read(0, 1), planes.intensities())


def decoded(name: str) -> np.ndarray:
    member = Member(Path(get_testdata_file(name, download=False)))
    with Opener() as opener, opener.open(member) as file:
        header = read_header(member, file, opener.stamp(member, file))
        return find_pixels(header, opener).read(0, opener)


@pytest.mark.parametrize("name", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"])
def test_pydicoms_own_files_agree(name):
    assert np.array_equal(decoded(f"MR_small_{name}.dcm"), decoded("MR_small.dcm"))


def test_a_sign_that_the_codestream_contradicts():
    name = "J2K_pixelrep_mismatch.dcm"
    assert np.array_equal(decoded(name), pydicom.dcmread(get_testdata_file(name, download=False)).pixel_array)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("693_J2KI.dcm", (512, 512)),
        ("JPEG2000.dcm", (1024, 256)),
        ("JPGExtended.dcm", (1024, 256)),
        ("JPEGLSNearLossless_16.dcm", (50, 10)),
        ("SC_rgb_jpeg_gdcm.dcm", (100, 100)),
    ],
)
def test_codestreams_say_their_size(name, shape):
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    assert (dataset.Rows, dataset.Columns) == shape
    assert codestream_shape(frame) == shape


def test_a_missing_decoder_is_told_from_damage(monkeypatch):
    options = {"rows": 36, "columns": 40, "photometric_interpretation": "MONOCHROME2", "pixel_representation": 1}
    request = {"syntax": JPEG2000Lossless, "options": {**options, "bits_allocated": 16, "bits_stored": 16}}
    with pytest.raises(Exception) as damaged:
        decoder_process.decode(request, bytes(100))
    assert decoder_process.problem(damaged.value)["problem"] == "damaged"
    monkeypatch.setattr(pydicom.pixels.decoders.JPEG2000LosslessDecoder, "_available", {})
    with pytest.raises(Exception) as missing:
        decoder_process.decode(request, bytes(100))
    assert decoder_process.problem(missing.value)["problem"] == "missing"


def test_a_missing_decoder_is_named_with_its_extra(tmp_path, monkeypatch):
    save(classic_slice(Planes(n=1, rows=36, columns=40), 0), plain := tmp_path / "plain.dcm")
    by_pydicom(plain, plain, JPEG2000Lossless)
    volume = open_series(plain)
    monkeypatch.setattr(decoding, "_ask", lambda *_: ({"problem": "missing", "kind": "RuntimeError"}, b""))
    with pytest.raises(InputError, match=r"no decoder for JPEG 2000 .*: pip install 'medsr-monai\[dicom\]'"):
        volume.read(0, 1)


# Both end the process that decodes them: gdcm throws through libjpeg's C frames.
@pytest.mark.parametrize("kind", ["JPEG lossless, gdcm", "JPEG-LS"])
def test_a_decoder_that_ends_its_process_is_an_input_error_and_the_next_file_is_read(tmp_path, kind):
    planes = Planes(n=1, rows=36, columns=40)
    encode, option, _ = KINDS[kind]
    encode(save(classic_slice(planes, 0), tmp_path / "plain.dcm"), tmp_path / "good.dcm", option)
    content = (tmp_path / "good.dcm").read_bytes()
    begin = content.index(b"\xff\xd8\xff", content.index(b"\xe0\x7f\x10\x00")) + 30
    rng = np.random.default_rng(0)
    messages = set()
    (tmp_path / "bad").mkdir()
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(begin, len(content) - 10, 8):
            damaged[place] = rng.integers(256)
        (tmp_path / "bad" / "bad.dcm").write_bytes(damaged)
        try:
            open_series(tmp_path / "bad").read(0, 1)
        except InputError as error:
            messages.add(str(error))
    assert any("damaged JPEG" in message for message in messages)
    assert np.array_equal(open_series(tmp_path / "good.dcm").read(0, 1), planes.intensities())


def test_a_frame_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(decoding, "_SCRIPT", tmp_path / "sleeper.py")
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(60)")
    decoder = decoding.DecoderProcess()
    with pytest.raises(decoding.Undecodable, match="gave up"):
        decoder.decode({}, b"")
    decoder.close()


@pytest.mark.skipif(
    shutil.which("dcmcjpeg") is None, reason="dcmtk's dcmcjpeg is not installed (apt-get install dcmtk)"
)
def test_what_no_decoder_reads_is_not_called_damaged(tmp_path):
    dataset = classic_slice(Planes(n=1, inter=0.0, sop_class=MR), 0)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.PixelData = (np.arange(99, dtype="<u2") * 40).tobytes()
    del dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue
    save(dataset, tmp_path / "plain.dcm")
    lossy = tmp_path / "lossy" / "one.dcm"
    lossy.parent.mkdir()
    subprocess.run(["dcmcjpeg", "+ee", tmp_path / "plain.dcm", lossy], check=True)
    volume = open_series(lossy)
    try:
        assert np.abs(volume.read(0, 1)[..., 0].T.ravel() - np.arange(99) * 40).max() < 400  # libjpeg is installed
    except InputError as error:
        assert "no decoder here reads JPEG Extended" in str(error) and "of 12 bits" in str(error)
