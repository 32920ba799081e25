"""Echo, find, fetch, send and a whole round through a real Orthanc, by DIMSE and by DICOMweb alike."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pydicom
import pytest

from medsr_monai.system.errors import InputError
from medsr_pacs.configuration import open_remote, read_configuration
from medsr_pacs.round_trip import upscale_study
from tests.apps.pacs.made import NAME, PATIENT, make_image, make_series, quick_upscale, uid
from tests.bundle.commands.test_cli import medsr
from tests.orthanc import Orthanc

WAYS = ["dimse", "move", "web"]


@pytest.mark.usefixtures("pacs_toml")
@pytest.mark.parametrize("way", WAYS)
def test_a_whole_round(way: str, orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.add(make_series(tmp_path / "one", series="one", n=3))
    orthanc.add(make_series(tmp_path / "two", series="two", n=2))
    remote = open_remote(read_configuration(), way)
    outcomes = {o.series: o for o in upscale_study(remote, remote, uid("study"), quick_upscale)}
    assert {series: o.n_sent for series, o in outcomes.items()} == {uid("study", "one"): 6, uid("study", "two"): 4}
    one, two = (uid("study", name) for name in ("one", "two"))
    expected = {one: 3, two: 2, uid(one, "derived"): 6, uid(two, "derived"): 4}
    assert orthanc.series() == expected
    # Once more: results are not upscaled themselves, and the same UIDs replace.
    again = list(upscale_study(remote, remote, uid("study"), quick_upscale))
    assert sorted(o.n_sent for o in again) == [0, 0, 4, 6]
    assert orthanc.series() == expected


@pytest.mark.usefixtures("pacs_toml")
@pytest.mark.parametrize("way", WAYS)
def test_one_series_is_chosen_and_one_that_fails_does_not_keep_the_other(
    way: str, orthanc: Orthanc, tmp_path: Path
) -> None:
    orthanc.add(make_series(tmp_path / "one", series="one", n=2))
    bad = make_image("study", "bad", 1)
    bad.SeriesDescription = "cannot be upscaled"
    bad.save_as(tmp_path / "bad.dcm")
    orthanc.add([tmp_path / "bad.dcm"])
    remote = open_remote(read_configuration(), way)
    outcomes = {o.series: o for o in upscale_study(remote, remote, uid("study"), quick_upscale)}
    assert outcomes[uid("study", "one")].n_sent == 4
    assert outcomes[uid("study", "bad")].is_error
    only = list(upscale_study(remote, remote, uid("study"), quick_upscale, uid("study", "one")))
    assert [o.series for o in only] == [uid("study", "one")]


@pytest.mark.usefixtures("pacs_toml")
@pytest.mark.parametrize("way", WAYS)
def test_commands_send_find_and_fetch(
    way: str, orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    files = make_series(tmp_path / "in", n=3)
    assert medsr(monkeypatch, "pacs", "echo", "--remote", way) == 0
    assert medsr(monkeypatch, "pacs", "send", tmp_path / "in", "--remote", way) == 0
    assert orthanc.series() == {uid("study", "series"): 3}
    assert medsr(monkeypatch, "pacs", "find", "--date", "20240101-20241231", "--remote", way) == 0
    assert medsr(monkeypatch, "pacs", "find", "--study", uid("study"), "--modality", "ct", "--remote", way) == 0
    assert medsr(monkeypatch, "pacs", "fetch", tmp_path / "out", "--study", uid("study"), "--remote", way) == 0
    said = capfd.readouterr()
    assert f"{uid('study')}  20240131  CT  1 series" in said.out
    assert f"{uid('study', 'series')}  CT  3 images" in said.out
    fetched = sorted((tmp_path / "out" / uid("study", "series")).iterdir())
    assert [file.name for file in fetched] == ["0001.dcm", "0002.dcm", "0003.dcm"]
    pixels = {pydicom.dcmread(file).SOPInstanceUID: pydicom.dcmread(file).PixelData for file in fetched}
    assert pixels == {pydicom.dcmread(file).SOPInstanceUID: pydicom.dcmread(file).PixelData for file in files}
    assert not [name for name in (NAME, PATIENT, "Doe", "4711") if name in said.out + said.err]


@pytest.mark.usefixtures("pacs_toml")
@pytest.mark.parametrize("way", WAYS)
def test_compressed_images_come_as_they_are_stored(way: str, orthanc: Orthanc, tmp_path: Path) -> None:
    image = make_image("study", "series", 1, size=16)
    image.compress(pydicom.uid.RLELossless)
    image.save_as(tmp_path / "rle.dcm")
    plain = make_image("study", "series", 2, size=16)
    plain.save_as(tmp_path / "plain.dcm")
    orthanc.add([tmp_path / "rle.dcm", tmp_path / "plain.dcm"])
    got = open_remote(read_configuration(), way).fetch(uid("study"), None, tmp_path / "out")
    assert got.n_instances == 2
    read = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").rglob("*.dcm"))]
    by_number = {int(dataset.InstanceNumber): dataset.pixel_array for dataset in read}
    digest = {number: hashlib.sha256(array.tobytes()).hexdigest() for number, array in by_number.items()}
    assert digest[1] == hashlib.sha256(make_image("study", "series", 1, 16).PixelData).hexdigest()
    assert digest[2] == hashlib.sha256(plain.PixelData).hexdigest()


@pytest.mark.usefixtures("pacs_toml")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("arguments", [("--study", uid("nobody")), ("--study", uid("study"), "--series", uid("x"))])
def test_what_is_not_there_is_said(
    way: str,
    arguments: tuple[str, ...],
    orthanc: Orthanc,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    orthanc.add(make_series(tmp_path / "in", n=1))
    assert medsr(monkeypatch, "pacs", "fetch", tmp_path / "out", *arguments, "--remote", way) == 2
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith(f"error: {way}: ")
    assert "has no instances" in said[0] or "one that `medsr pacs find` lists" in said[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("pacs_toml", "orthanc")
@pytest.mark.parametrize("study", ["../../etc", "1.2.3/..", "1..2", "1." + "2" * 70, "1.02", "1.2.3\n"])
def test_only_uids_go_into_queries_and_paths(study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("find", "upscale"):
        assert medsr(monkeypatch, "pacs", command, "--study", study, "--remote", "dimse") == 2
    assert medsr(monkeypatch, "pacs", "fetch", tmp_path / "out", "--study", study, "--remote", "dimse") == 2


@pytest.mark.usefixtures("pacs_toml")
def test_a_wrong_password_and_a_wrong_title_are_refused(
    orthanc: Orthanc, pacs_toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSR_TEST_PASSWORD", "wrong")
    with pytest.raises(InputError, match=r"not allowed \(HTTP 401\)"):
        open_remote(read_configuration(), "web").echo()
    pacs_toml.write_text(pacs_toml.read_text().replace('"ORTHANC"', '"NOBODY"'))
    with pytest.raises(InputError, match="refuses our AE title MEDSR, or is not called NOBODY"):
        open_remote(read_configuration(), "dimse").echo()


@pytest.mark.parametrize("way", WAYS)
def test_an_archive_that_is_not_running_is_said(way: str, pacs_toml: Path, orthanc: Orthanc) -> None:
    text = (
        pacs_toml.read_text().replace(f"port = {orthanc.dimse_port}", "port = 1").replace(str(orthanc.http_port), "1")
    )
    pacs_toml.write_text(text)
    with pytest.raises(InputError, match=f"{way}.*: no connection"):
        open_remote(read_configuration(), way).echo()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--date", "2024-01-31"), "--date 2024-01-31: must be a day or a range"),
        (("--study", "1.2.3", "--date", "20240131"), "--date: chooses studies"),
        (("--study", "1.2.3", "--patient_id", "4711"), "--patient_id: chooses studies"),
    ],
)
def test_a_search_that_an_archive_would_answer_with_nothing_or_too_much_is_refused(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert medsr(monkeypatch, "pacs", "find", *arguments) == 2
    assert capfd.readouterr().err.startswith(f"error: {said}")
