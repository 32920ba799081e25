"""The real upscaling in its process of its own, alone and through a real archive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medsr_monai.system.errors import InputError
from medsr_pacs import upscaling
from medsr_pacs.upscaling import InterruptedUpscalingError, UpscaleProcess
from tests.apps.pacs.made import NAME, PATIENT, configuration_text, dimse, make_series, push, uid
from tests.apps.pacs.test_listen import wait_for
from tests.bundle.commands.test_cli import medsr
from tests.orthanc import Orthanc, free_port

BUNDLE = {"bundle": "brain_mri_super_resolution"}


@pytest.mark.slow
@pytest.mark.usefixtures("pacs_toml")
@pytest.mark.parametrize("way", ["dimse", "web"])
def test_a_study_is_upscaled_by_the_shipped_bundle(
    way: str, orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    orthanc.add(make_series(tmp_path / "in", n=4, size=8))
    assert medsr(monkeypatch, "pacs", "upscale", "--study", uid("study"), "--remote", way) == 0
    said = capfd.readouterr()
    counts = orthanc.series()
    assert counts.pop(uid("study", "series")) == 4
    ((derived, n_images),) = counts.items()
    assert n_images == 8 and "4 images: 8 images sent" in said.out
    assert f"{uid('study', 'series')}  fetched, upscaling" in said.err
    assert not [secret for secret in (NAME, PATIENT, "Doe", "4711") if secret in said.out + said.err]
    assert medsr(monkeypatch, "pacs", "fetch", tmp_path / "out", "--study", uid("study"), "--remote", way) == 0
    results = [pydicom.dcmread(file) for file in sorted((tmp_path / "out" / derived).iterdir())]
    assert {(int(image.Rows), int(image.Columns)) for image in results} == {(16, 16)}
    # Exact consistency: averaged again, it is the input; 0.5 for the rounding of both.
    results.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    volume = np.stack([image.pixel_array * float(image.RescaleSlope) for image in results]).astype(float)
    averaged = volume.reshape(4, 2, 8, 2, 8, 2).mean(axis=(1, 3, 5))
    source = np.stack([pydicom.dcmread(file).pixel_array for file in sorted((tmp_path / "in").iterdir())])
    assert np.abs(averaged - source).max() <= 0.5
    # A second time nothing doubles: results are left alone, and the same UIDs replace.
    assert medsr(monkeypatch, "pacs", "upscale", "--study", uid("study"), "--remote", way) == 0
    assert orthanc.series() == {uid("study", "series"): 4, derived: 8}
    assert "is a result of this program" in capfd.readouterr().out


@pytest.mark.slow
def test_the_command_listens_until_it_is_stopped(orthanc: Orthanc, tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "pacs.toml"
    config.write_text(configuration_text(tmp_path / "q", port, dimse(orthanc.dimse_port, "ORTHANC")))
    command = [sys.executable, "-m", "medsr_monai.bundle.commands.cli", "pacs", "listen", "--config", str(config)]
    log = tmp_path / "log.txt"
    with open(log, "w") as opened, subprocess.Popen(command, stderr=opened, stdout=opened) as process:
        try:
            wait_for(lambda: "listening on" in log.read_text(), "the command to listen", 60)
            assert push(port, make_series(tmp_path / "in", n=4)) == [0] * 4
            wait_for(lambda: list(orthanc.series().values()) == [8], "the derived series", 120)
            assert push(port, make_series(tmp_path / "bad", series="bad", n=1, size=1)) == [0]
            wait_for(lambda: "failed" in log.read_text().split("listening on")[1], "what cannot be upscaled", 120)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert process.returncode == 0 and log.read_text().endswith("stopped\n")


@pytest.mark.slow
def test_why_a_series_cannot_be_upscaled_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "note.txt").write_text("no DICOM")
    with pytest.raises(InputError) as error:
        UpscaleProcess(BUNDLE)(tmp_path / "in", tmp_path / "out")
    assert "\n" not in str(error.value) and str(tmp_path / "in") in str(error.value)
    assert not (tmp_path / "out").exists()


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the process run this code."""
    start = subprocess.Popen

    def started(command: list[str], **options: Any) -> Any:
        return start([sys.executable, "-c", code, *command[3:]], **options)

    monkeypatch.setattr(upscaling.subprocess, "Popen", started)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed; there may be too little memory"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("raise ValueError('Doe^Secret')", "status 1"),
        ("import sys; sys.exit('error: the reason')", "the reason"),
    ],
)
def test_a_process_that_dies_is_an_error_of_the_series(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, reason: str
) -> None:
    run_instead(monkeypatch, code)
    with pytest.raises(InputError, match=reason) as error:
        UpscaleProcess(BUNDLE)(tmp_path, tmp_path / "out")
    assert "Doe" not in str(error.value)


def test_stopping_ends_the_process_and_is_no_error_of_the_series(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_instead(monkeypatch, "import time; time.sleep(60)")
    upscale = UpscaleProcess(BUNDLE)
    threading.Timer(0.3, upscale.stop).start()
    started = time.monotonic()
    with pytest.raises(InterruptedUpscalingError):
        upscale(tmp_path, tmp_path / "out")
    assert time.monotonic() - started < 20


def test_the_process_ends_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, threading, time\n"
        "from medsr_pacs.upscaling import _end_with_parent\n"
        "threading.Thread(target=_end_with_parent, daemon=True).start()\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()) + ' ')\n"
        "time.sleep(60)"
    )
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {code!r}], stdin=subprocess.PIPE)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith(" "), "the child")
    child = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait()

    def is_gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{child}/stat")
        return stat.exists() and stat.read_text().split()[2] == "Z"

    wait_for(is_gone, "the child to end")
