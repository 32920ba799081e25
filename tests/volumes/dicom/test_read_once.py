"""A header is parsed once by each command, and what it said is carried along; a file that changes meanwhile is told.

What is counted is `pydicom.filereader.read_partial`, the parser behind every way in which pydicom reads a file. Opening
a file again is not counted: the pixels are read from where the header ended.
"""

from __future__ import annotations

import copy
import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import ENHANCED_CT, MR, Planes, classic_slice, enhanced, save, write_series
from test_door import medsr  # noqa: F401  a fixture
from test_hostile import zipped

from medsr_monai.system.errors import InputError
from medsr_monai.volumes import LoadVolumed, find_volumes, open_volume, read_info, read_volume
from medsr_monai.volumes.dicom import find_series, find_sources, open_series
from medsr_monai.volumes.dicom.pixels import Pixels

N = 30


@pytest.fixture
def parsed(monkeypatch) -> Counter:
    """How often the header of each file was parsed, by its name."""
    counts: Counter = Counter()
    parse = pydicom.filereader.read_partial

    def counted(file, *args, **kwargs):
        counts[Path(file.name).name] += 1
        return parse(file, *args, **kwargs)

    monkeypatch.setattr(pydicom.filereader, "read_partial", counted)
    return counts


@pytest.fixture
def decoded(monkeypatch) -> Counter:
    """How often each frame was read."""
    counts: Counter = Counter()
    read = Pixels.read

    def counted(self, frame, opener):
        counts[self.member, frame] += 1
        return read(self, frame, opener)

    monkeypatch.setattr(Pixels, "read", counted)
    return counts


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_series(tmp_path / "scan", Planes(n=N))


COMMANDS = {
    "list": ("dicom", "list", "SCAN"),
    "read": ("dicom", "read", "SCAN", "OUT.nii"),
    "upscale to a series": ("upscale", "SCAN", "OUT", "--stream", "never", "--progress", False),
    "upscale to a file": ("upscale", "SCAN", "OUT.nii", "--stream", "never", "--progress", False),
    "upscale in slabs": ("upscale", "SCAN", "OUT", "--stream", "always", "--progress", False),
    "upscale one of two": ("upscale", "SCAN", "OUT", "--series", "3", "--progress", False),
}


@pytest.mark.parametrize("kind", ["folder", "zip", "file"])
@pytest.mark.parametrize("name", COMMANDS)
def test_each_header_is_parsed_once(name, kind, scan, tmp_path, medsr, parsed):  # noqa: F811  a fixture
    n = N
    if name == "upscale one of two":
        write_series(scan / "other", Planes(n=4), SeriesNumber=8)
        n += 0 if kind == "file" else 4
        for k, file in enumerate(sorted((scan / "other").iterdir())):
            file.rename(file.with_name(f"other-{k}.dcm"))
    source = {"folder": scan, "zip": zipped(scan, tmp_path / "scan.zip"), "file": scan / "000.dcm"}[kind]
    parsed.clear()
    places = {"SCAN": source, "OUT": tmp_path / "out", "OUT.nii": tmp_path / "out.nii"}
    status, said = medsr(*(places.get(word, word) for word in COMMANDS[name]))
    assert status == 0, said
    assert set(parsed.values()) == {1} and len(parsed) == (1 if (name, kind) == ("list", "file") else n)


def test_the_reference_of_a_derived_series_is_parsed_once(scan, tmp_path, medsr, parsed):  # noqa: F811
    assert medsr("upscale", scan, tmp_path / "sr.nii", "--progress", False)[0] == 0
    parsed.clear()
    status, said = medsr("dicom", "write", tmp_path / "sr.nii", tmp_path / "out", "--reference", scan)
    assert status == 0, said
    assert set(parsed.values()) == {1} and len(parsed) == N


@pytest.mark.parametrize("signed", [True, False])
def test_each_frame_is_decoded_once(signed, tmp_path, medsr, decoded):  # noqa: F811
    planes = Planes(n=6, sop_class=MR, inter=0.0)
    scan = write_series(tmp_path / "scan", planes.with_(inter=-1024.0), PixelRepresentation=int(signed))
    for name in ("read", "upscale to a series"):
        decoded.clear()
        places = {"SCAN": scan, "OUT": tmp_path / "out", "OUT.nii": tmp_path / "out.nii"}
        status, said = medsr(*(places.get(word, word) for word in COMMANDS[name]))
        assert status == 0, said
        assert set(decoded.values()) == {1} and len(decoded) == 6


def test_what_reads_a_found_series_parses_nothing(scan, parsed):
    (source,) = find_volumes(scan)
    volume = read_volume(source)
    for again in (source, copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert read_info(again).grid == volume.grid
        with open_volume(again) as lazy:
            lazy.read(0, 1)
        assert np.array_equal(LoadVolumed("image")({"image": again})["image"][0], volume.data)
    assert find_volumes([source]) == [source]
    assert set(parsed.values()) == {1} and len(parsed) == N


def test_an_enhanced_file_is_parsed_once(tmp_path, medsr, parsed):  # noqa: F811
    save(enhanced(Planes(sop_class=ENHANCED_CT)), tmp_path / "multi.dcm")
    assert medsr("upscale", tmp_path / "multi.dcm", tmp_path / "out", "--progress", False)[0] == 0
    assert parsed["multi.dcm"] == 1


def test_the_path_of_a_found_series_finds_it_again(scan, tmp_path):
    for root in (scan, zipped(scan, tmp_path / "scan.zip")):
        (source,) = find_sources(root)
        again = read_volume(str(source))
        assert again.path == source.path and np.array_equal(again.data, read_volume(source).data)


def test_a_listing_keeps_no_headers_and_neither_does_a_choice_that_is_open(scan):
    assert find_series(scan)[0].headers == ()
    write_series(scan / "other", Planes(n=2))
    assert [series.headers for series in find_series(scan, "only")] == [(), ()]
    with pytest.raises(InputError, match="2 series"):
        find_volumes(scan)
    kept = find_series(scan, "all")
    assert sorted(len(series.headers) for series in kept) == [2, N]


def changed(path: Path) -> None:
    dataset = classic_slice(Planes(), 0)
    dataset.RescaleIntercept = "-1000"
    content = path.stat()
    save(dataset, path)
    os.utime(path, ns=(content.st_atime_ns, content.st_mtime_ns + 1))


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("when", ["before the planes are found", "before the pixels are read"])
def test_a_file_that_changes_after_its_header_was_read_is_told(kind, when, tmp_path):
    scan = write_series(tmp_path / "scan", Planes())
    root = scan if kind == "folder" else zipped(scan, tmp_path / "scan.zip")
    (source,) = find_sources(root)
    if when == "before the pixels are read":
        assert source.volume.grid.shape[2] == 6
    changed(scan / "007.dcm")
    if kind == "zip":
        zipped(scan, root)
    with pytest.raises(InputError, match="was changed while it was read; try again"):
        source.volume.read(0, 6)
    (scan / "007.dcm").unlink()
    if kind == "folder":
        with pytest.raises(InputError, match=r"007\.dcm: cannot be read"):
            find_sources(root) and source.volume.read(0, 6)


def test_a_new_file_and_a_missing_one_are_noticed_by_the_next_reading(tmp_path):
    planes = Planes()
    folder = write_series(tmp_path / "scan", planes)
    assert open_series(folder).grid.shape[2] == 6
    added = save(classic_slice(planes, 6), folder / "new.dcm")
    assert open_series(folder).grid.shape[2] == 7
    added.unlink()
    assert open_series(folder).grid.shape[2] == 6
