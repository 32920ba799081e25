"""The listener as a real process: killed and restarted, flooded, and talked to by foreign clients."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.apps.pacs.listener_process import POINTS, serve
from tests.apps.pacs.made import (
    NAME,
    PATIENT,
    CountingArchive,
    configuration_text,
    dimse,
    make_series,
    push,
    quick_upscale,
    uid,
)
from tests.orthanc import Orthanc, free_port

# A server that has imported all there is forks the listeners: a new interpreter for each would take a second or two.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.apps.pacs.listener_process"])
STORESCU = shutil.which("storescu")


class Listener:
    """A listener process, its configuration and what it said."""

    def __init__(self, folder: Path, destination: str, more: str = "") -> None:
        self.port, self.spool, self.log = free_port(), folder / "queue", folder / "log.txt"
        self.config = folder / "listen.toml"
        self.config.write_text(configuration_text(self.spool, self.port, destination, more))

    @contextmanager
    def running(self, point: str = "", seconds: float = 0) -> Iterator[Any]:
        arguments = (str(self.config), str(self.log), point, seconds, dict(os.environ))
        n_lines = self.said().count("listening on")
        process = PROCESSES.Process(target=serve, args=arguments, daemon=True)
        process.start()
        try:
            wait_for(lambda: self.said().count("listening on") > n_lines, "the listener to start", 20)
            yield process
        finally:
            process.terminate()
            process.join(10)
            process.kill()
            process.join()

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def names(self, state: str) -> list[str]:
        return sorted(entry.name for entry in (self.spool / state).iterdir())

    def is_empty(self) -> bool:
        return not any(self.names(state) for state in ("incoming", "ready", "result"))


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)


def derived(series: str, n: int) -> set[str]:
    """UIDs of what the quick upscaler makes of a series of n images."""
    return {uid(uid("study", series), "derived", index, n) for index in range(2 * n)}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_and_restarted_each_series_is_sent_exactly_once(point: str, tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", n=3)
    with CountingArchive(free_port()) as archive:
        listener = Listener(tmp_path, dimse(archive._port))
        with listener.running(point) as process:
            statuses = push(listener.port, files)
            process.join(20)
        assert process.exitcode == -signal.SIGKILL
        unsent = [file for file, status in zip(files, [*statuses, -1, -1, -1], strict=False) if status != 0]
        assert len(unsent) == (1 if point == "receiving" else 0)
        with listener.running():
            if unsent:
                assert push(listener.port, unsent) == [0]
            wait_for(lambda: listener.is_empty() and bool(listener.names("done")), "the series to be done")
            time.sleep(0.6)  # longer than a series is waited for: nothing more may come
        assert dict(archive.stored) == dict.fromkeys(derived("series", 3), 1)
        assert listener.names("work") == [] and listener.names("failed") == []
        assert len(listener.names("done")) == 1


def test_a_destination_that_cannot_be_asked_gets_the_image_in_doubt_again(tmp_path: Path) -> None:
    with CountingArchive(free_port(), can_find=False) as archive:
        listener = Listener(tmp_path, dimse(archive._port))
        with listener.running("unconfirmed") as process:
            push(listener.port, make_series(tmp_path / "in", n=3))
            process.join(20)
        with listener.running():
            wait_for(lambda: len(archive.stored) == 6 and listener.is_empty(), "the series to be done")
        assert set(archive.stored) == derived("series", 3)
        assert sorted(archive.stored.values()) == [1, 1, 1, 1, 1, 2]


def test_repeats_late_images_and_another_restart(tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", n=4)
    with CountingArchive(free_port()) as archive:
        listener = Listener(tmp_path, dimse(archive._port), "keep_seconds = 3600")
        with listener.running():
            assert push(listener.port, files[:3]) == [0, 0, 0]
            wait_for(lambda: len(archive.stored) == 6 and listener.is_empty(), "the first three")
            assert push(listener.port, files[:2]) == [0, 0]  # known images: nothing to do
            wait_for(lambda: "repeated" in listener.said() and listener.is_empty(), "the repeat")
        assert dict(archive.stored) == dict.fromkeys(derived("series", 3), 1)
        with listener.running():
            assert push(listener.port, files[3:]) == [0]  # a late one: the whole is made again
            wait_for(lambda: len(archive.stored) == 14 and listener.is_empty(), "all four")
        assert dict(archive.stored) == dict.fromkeys(derived("series", 3) | derived("series", 4), 1)


def test_a_late_image_of_a_series_no_longer_kept_fails_until_all_is_sent_again(tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", n=3)
    with CountingArchive(free_port()) as archive:
        listener = Listener(tmp_path, dimse(archive._port), "keep_seconds = 0")
        with listener.running():
            push(listener.port, files[:2])
            wait_for(lambda: len(archive.stored) == 4 and listener.is_empty(), "the first two")
            push(listener.port, files[2:])
            wait_for(lambda: bool(listener.names("failed")), "the late one to be put aside")
            (failed,) = listener.names("failed")
            assert "send all again" in (listener.spool / "failed" / failed / "reason.txt").read_text()
            push(listener.port, files)
            wait_for(lambda: len(archive.stored) == 10 and listener.is_empty(), "all three")
            assert listener.names("failed") == []


def test_a_series_that_cannot_be_upscaled_is_put_aside_and_the_next_one_is_done(tmp_path: Path) -> None:
    import pydicom

    bad = make_series(tmp_path / "bad", series="bad", n=1)
    image = pydicom.dcmread(bad[0])
    image.SeriesDescription = "cannot be upscaled"
    image.save_as(bad[0])
    good = make_series(tmp_path / "good", series="good", n=1)
    with CountingArchive(free_port()) as archive:
        listener = Listener(tmp_path, dimse(archive._port))
        with listener.running():
            assert push(listener.port, bad) == [0]
            wait_for(lambda: bool(listener.names("failed")), "the bad one to be put aside")
            assert push(listener.port, good) == [0]
            wait_for(lambda: set(archive.stored) == derived("good", 1), "the good one")
        (failed,) = listener.names("failed")
        assert (listener.spool / "failed" / failed / "reason.txt").read_text().count("\n") == 1
        said = listener.said()
        assert "cannot be upscaled" in said
        assert not [secret for secret in (NAME, PATIENT, "Secret", "4711", uid("study", "bad")) if secret in said]
        names = " ".join(str(path) for path in listener.spool.rglob("*"))
        assert not [secret for secret in (NAME, PATIENT, uid("study", "bad")) if secret in names]


def test_an_unreachable_destination_is_tried_again_and_others_wait_on_disk(tmp_path: Path) -> None:
    port = free_port()
    listener = Listener(tmp_path, dimse(port))
    with listener.running():
        assert push(listener.port, make_series(tmp_path / "in", n=2)) == [0, 0]
        wait_for(lambda: "again in" in listener.said(), "the first attempt")
    with listener.running(), CountingArchive(port) as archive:
        wait_for(lambda: set(archive.stored) == derived("series", 2) and listener.is_empty(), "the series")
        assert set(archive.stored.values()) == {1}


@pytest.mark.parametrize("way", ["dimse", "web"])
def test_results_reach_a_real_orthanc(way: str, orthanc: Orthanc, tmp_path: Path) -> None:
    remote = orthanc.remotes().split(f"[remotes.{way}]\n")[1].split("[")[0]
    listener = Listener(tmp_path, remote)
    with listener.running():
        assert push(listener.port, make_series(tmp_path / "in", n=3)) == [0, 0, 0]
        expected = {uid(uid("study", "series"), "derived"): 6}
        wait_for(lambda: orthanc.series() == expected and listener.is_empty(), "the derived series")
        # What comes back is not upscaled again.
        quick_upscale(tmp_path / "in", tmp_path / "out")
        assert push(listener.port, sorted((tmp_path / "out").iterdir())[:1]) == [0xB000]


def test_a_real_orthanc_sends_here(orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.add(make_series(tmp_path / "in", n=3))
    listener = Listener(tmp_path, dimse(orthanc.dimse_port, "ORTHANC"))
    orthanc.rest("/modalities/listener", f'["MEDSR", "127.0.0.1", {listener.port}]'.encode(), method="PUT")
    try:
        with listener.running():
            (study,) = orthanc.rest("/studies")
            orthanc.rest("/modalities/listener/store", study.encode())
            wait_for(lambda: orthanc.series().get(uid(uid("study", "series"), "derived")) == 6, "the derived series")
            # The study holds our result now, at which a push of all of it does not stop.
            orthanc.add(make_series(tmp_path / "more", series="other", n=2))
            orthanc.rest("/modalities/listener/store", study.encode())
            wait_for(lambda: orthanc.series().get(uid(uid("study", "other"), "derived")) == 4, "the other series")
    finally:  # it would answer C-MOVE to our title there
        orthanc.rest("/modalities/listener", method="DELETE")


@pytest.mark.skipif(not STORESCU, reason="dcmtk's storescu is not installed (apt-get install dcmtk)")
def test_storescu_is_served_by_title(tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", n=2)
    with CountingArchive(free_port()) as archive:
        listener = Listener(tmp_path, dimse(archive._port))

        def storescu(calling: str, called: str) -> int:
            command = [
                str(STORESCU),
                "-aet",
                calling,
                "-aec",
                called,
                "127.0.0.1",
                str(listener.port),
                *map(str, files),
            ]
            return subprocess.run(command, capture_output=True, timeout=20).returncode

        with listener.running():
            assert storescu("STRANGER", "MEDSR") != 0
            assert storescu("SENDER", "ANOTHER") != 0
            assert not listener.names("incoming")
            assert storescu("SENDER", "MEDSR") == 0
            wait_for(lambda: set(archive.stored) == derived("series", 2), "the derived series")


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def push_twenty(tmp_path: Path, n: int, size: int, quiet: float) -> float:
    """Push 20 series at once; all come back. Returns the listener's peak memory in MB above that at its start."""
    pushed = {f"s{k}": make_series(tmp_path / f"s{k}", series=f"s{k}", n=n, size=size) for k in range(20)}
    results: dict[str, list[int]] = {}
    with CountingArchive(free_port()) as archive:
        listener = Listener(tmp_path, dimse(archive._port), "max_associations = 20")
        # On a busy machine a sender may wait for its turn; a series must not be taken for complete then.
        listener.config.write_text(
            listener.config.read_text().replace("quiet_seconds = 0.3", f"quiet_seconds = {quiet}")
        )
        with listener.running() as process:
            before = resident_mb(process.pid)
            threads = [
                threading.Thread(target=lambda k=k: results.__setitem__(k, push(listener.port, pushed[k])))
                for k in pushed
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert results == dict.fromkeys(pushed, [0] * n)
            wait_for(lambda: len(archive.stored) == 40 * n and listener.is_empty(), "all series", 300)
            peak = resident_mb(process.pid) - before
        assert set(archive.stored) == set().union(*(derived(k, n) for k in pushed))
        assert set(archive.stored.values()) == {1}
    return peak


def test_twenty_series_pushed_at_once_all_come_back(tmp_path: Path) -> None:
    assert push_twenty(tmp_path, n=2, size=8, quiet=1.0) < 100


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_twenty_large_series_at_once_take_little_memory(tmp_path: Path) -> None:
    """20 series of 20 images of 0.5 MB are 200 MB, results 400 MB; the stand-in holds one series and its result."""
    assert push_twenty(tmp_path, n=20, size=512, quiet=10.0) < 150
