"""A series' headers are read once, and again when one of its files changes."""

from __future__ import annotations

import pytest
from dicom_files import Planes, classic_slice, save, write_series

from medsr_monai.volumes.dicom import find_series, open_series, series, volume


@pytest.fixture
def reads(monkeypatch) -> list:
    """What was read, in order."""
    done: list = []
    for module in (series, volume):
        name = "read_planes" if module is volume else "_grouped"
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, name=name, original=original: (done.append(name), original(*a))[1])
    return done


def test_the_same_question_is_answered_from_memory(tmp_path, reads):
    folder = write_series(tmp_path / "scan", Planes())
    first = open_series(folder)
    assert open_series(folder) is first and reads == ["_grouped", "read_planes"]
    assert open_series(folder / first.uid) is not first  # another path, another name in messages
    assert reads == ["_grouped", "read_planes", "read_planes"]


def test_a_new_file_a_changed_one_and_a_missing_one_are_noticed(tmp_path, reads):
    planes = Planes()
    folder = write_series(tmp_path / "scan", planes)
    assert open_series(folder).grid.shape[2] == 6
    added = save(classic_slice(planes, 6), folder / "new.dcm")
    assert open_series(folder).grid.shape[2] == 7
    added.unlink()
    assert open_series(folder).grid.shape[2] == 6

    changed = classic_slice(planes, 0)
    changed.RescaleIntercept = "-1000"  # as long as before
    before = open_series(folder).read(0, 1)
    save(changed, folder / "000.dcm")
    assert (open_series(folder).read(0, 1) == before + 24).all()


def test_a_caller_cannot_change_what_is_remembered(tmp_path):
    folder = write_series(tmp_path / "scan", Planes())
    find_series(folder).clear()
    assert len(find_series(folder)) == 1
