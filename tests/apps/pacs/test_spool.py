"""The queue on disk: its limits, what a full disk does, and what it makes of late and repeated images."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from medsr_monai.system.errors import InputError
from medsr_pacs import spool as spool_file
from medsr_pacs.arrivals import Arrivals
from medsr_pacs.configuration import read_configuration
from medsr_pacs.instances import Instance
from medsr_pacs.service import Service
from medsr_pacs.settings import Limits
from medsr_pacs.spool import QueueFullError, Spool
from tests.apps.pacs.made import CountingArchive, configuration_text, dimse, make_series, push, quick_upscale
from tests.apps.pacs.test_listen import derived
from tests.orthanc import free_port

GENEROUS = Limits(min_free_gb=0.0)
CT, PLAIN = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def instance(series: int, number: int) -> Instance:
    return Instance(CT, f"1.2.{series}.{number}", "1.2.1", f"1.2.{series}", PLAIN)


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != "lock")


@pytest.mark.parametrize(
    ("limits", "free", "message"),
    [
        (Limits(max_series=1, min_free_gb=0), 10**12, "max_series"),
        (Limits(max_total_gb=9e-6, min_free_gb=0), 10**12, "max_total_gb"),
        (Limits(min_free_gb=1), 10**9 + 6000, "min_free_gb"),
    ],
)
def test_a_full_queue_refuses_and_leaves_nothing(tmp_path: Path, limits: Limits, free: int, message: str) -> None:
    spool = Spool(tmp_path / "q", limits, lambda: free - 4096 * len(files_below(tmp_path / "q")))
    spool.store(instance(1, 1), b"x" * 100)
    before = files_below(tmp_path / "q")
    with pytest.raises(QueueFullError, match=message):
        for number in range(5):
            spool.store(instance(2, number), b"x" * 100)
    after = files_below(tmp_path / "q")
    assert set(before) <= set(after) and len(after) <= 2 and not any("work" in name for name in after)
    if message == "max_series":
        spool.store(instance(1, 2), b"x")  # the series that waits gets its images


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_refuses_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    spool = Spool(tmp_path / "q", GENEROUS)

    def half_written(path: Path, *_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(spool_file, "write_instance", half_written)
        with pytest.raises(QueueFullError, match=os.strerror(number)):
            spool.store(instance(1, 1), b"x")
    assert files_below(tmp_path / "q") == []
    key = spool.store(instance(1, 1), b"x")
    assert spool.complete(key) == "ready"


def test_what_is_only_kept_makes_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "q", Limits(max_total_gb=21e-6, min_free_gb=0))
    first = spool.store(instance(1, 1), b"x")
    assert spool.complete(first) == "ready"
    spool.finish(first, 2, keep=True)
    assert spool.keys("kept") == [first]
    for number in range(3):  # three blocks of 4 kB, and the record and the lock are one each
        spool.store(instance(2, number), b"x")
    assert spool.keys("kept") == []
    with pytest.raises(QueueFullError):
        spool.store(instance(2, 5), b"x")


def test_one_process_has_the_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "q", GENEROUS)
    with pytest.raises(InputError, match="another listener uses this folder"):
        Spool(tmp_path / "q", GENEROUS)
    spool.close()
    Spool(tmp_path / "q", GENEROUS).close()
    assert (tmp_path / "q").stat().st_mode & 0o077 == 0


def test_images_that_come_while_their_series_is_worked_at_wait(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "q", GENEROUS)
    key = spool.store(instance(1, 1), b"x")
    assert spool.complete(key) == "ready"
    assert spool.store(instance(1, 2), b"x") == key
    assert spool.complete(key) == "busy"
    spool.finish(key, 2, keep=True)
    assert spool.complete(key) == "ready"
    assert len(list(spool.folder("ready", key).iterdir())) == 2
    spool.finish(key, 4, keep=True)
    spool.store(instance(1, 2), b"x")
    assert spool.complete(key) == "repeated"
    assert spool.keys("incoming") == [] and spool.record(key)["derived"] == 4  # type: ignore[index]


def test_images_that_make_a_failed_series_whole_are_joined_to_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "q", GENEROUS)
    key = spool.store(instance(1, 1), b"x")
    spool.complete(key)
    spool.fail("ready", key, "slices are missing\nand more")
    assert (spool.folder("failed", key) / "reason.txt").read_text() == "slices are missing and more\n"
    spool.store(instance(1, 2), b"x")
    assert spool.complete(key) == "ready"
    assert len(list(spool.folder("ready", key).glob("*.dcm"))) == 2 and spool.keys("failed") == []


def test_series_are_complete_when_it_is_quiet_or_on_release() -> None:
    now = [0.0]
    quiet = Arrivals(10, False, lambda: now[0])
    quiet.arrived("a", 1)
    now[0] = 9
    quiet.arrived("a", 1)
    quiet.closed(1, in_order=True)
    now[0] = 18
    assert quiet.complete() == []
    now[0] = 19
    assert quiet.complete() == ["a"]
    quiet.forget(["a"])
    assert quiet.complete() == []

    released = Arrivals(10, True, lambda: now[0])
    released.arrived("a", 1)
    released.arrived("a", 2)
    released.arrived("b", 3)
    released.closed(1, in_order=True)
    assert released.complete() == []  # the other connection may bring more
    released.closed(2, in_order=True)
    released.closed(3, in_order=False)  # broken off: its sender may come again
    assert released.complete() == ["a"]


def test_the_sender_hears_of_a_full_queue_and_nothing_is_lost(tmp_path: Path) -> None:
    with CountingArchive(free_port()) as archive:
        file = tmp_path / "pacs.toml"
        more = "max_series = 1\ncomplete_on_release = true"
        file.write_text(configuration_text(tmp_path / "q", 0, dimse(archive._port), more))
        first, second = (make_series(tmp_path / name, series=name, n=2) for name in ("a", "b"))
        with Service(read_configuration(file), quick_upscale) as service:
            assert push(service.port, first) == [0, 0]
            assert push(service.port, second) == [0xA700, 0xA700]
            service.run(until=lambda: len(archive.stored) == 4 and not service.spool.keys("ready"))
            assert push(service.port, second) == [0, 0]
            end = time.monotonic() + 20
            service.run(until=lambda: len(archive.stored) == 8 or time.monotonic() > end)
        assert set(archive.stored) == derived("a", 2) | derived("b", 2)


def test_a_destination_without_room_is_tried_again_and_one_that_refuses_is_not(tmp_path: Path) -> None:
    answers = [0xA700, 0x0000, 0x0000, 0x0000, 0xA700, 0x0000, 0xA900]
    with CountingArchive(free_port(), answer=lambda event: answers.pop(0)) as archive:
        file = tmp_path / "pacs.toml"
        file.write_text(configuration_text(tmp_path / "q", 0, dimse(archive._port), "complete_on_release = true"))
        with Service(read_configuration(file), quick_upscale) as service:
            push(service.port, make_series(tmp_path / "a", series="a", n=2))
            service.run(until=lambda: len(archive.stored) == 4 and not service.spool.keys("ready"))
            assert set(archive.stored.values()) == {1}
            push(service.port, make_series(tmp_path / "b", series="b", n=1))
            service.run(until=lambda: bool(service.spool.keys("failed")))
            (key,) = service.spool.keys("failed")
            reason = (service.spool.folder("failed", key) / "reason.txt").read_text()
            assert reason == "destination: C-STORE failed with status 0xA900\n"
