"""A training that Ctrl-C and a kill have ended ends, taken up again, with the weights of one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_contract import TINY_TRAINING, config_files, run_arguments, write_subjects

LONG = {**TINY_TRAINING, "epoch_length": 6, "max_epochs": 8, "val_interval": 4}
STAGES = {"fidelity": (["train"], 1), "gan": (["train", "train_gan"], 0)}  # configurations, worker processes
PATIENCE = 240  # seconds


def start(command: list[str]) -> subprocess.Popen:
    """In a group of its own, as in a terminal; a shell's background job would be started to ignore SIGINT."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


def end(process: subprocess.Popen) -> tuple[int, str]:
    """Its exit status and all it said."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out + err


def strike(command: list[str], runs: Path, epoch: int, blow: signal.Signals) -> tuple[int, str]:
    """Send a signal to the training and its workers, some way into the epoch after this one."""
    process = start(command)
    deadline = time.monotonic() + PATIENCE
    while not (runs / f"checkpoint_epoch={epoch}.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline, end(process)[1][-2000:]
        time.sleep(0.005)
    time.sleep(0.05)
    os.killpg(process.pid, blow)
    return end(process)


def record_of(runs: Path) -> dict[str, Any]:
    return json.loads((runs / "run.json").read_text())


def newest(runs: Path) -> int:
    return max(int(path.stem.partition("=")[2]) for path in runs.glob("checkpoint_epoch=*.pt"))


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        for pair in zip(a, b, strict=True):
            assert_equal(*pair)
    else:
        assert a == b


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_struck_twice_it_ends_as_if_left_alone(bundle, tiny_weights, stage, tmp_path):
    names, workers = STAGES[stage]
    data = write_subjects(tmp_path / "data")

    def command(runs: Path) -> list[str]:
        settings = {**LONG, "num_workers": workers, "initial_weights": tiny_weights, "device": "cpu"}
        arguments = run_arguments(bundle, config_files(bundle, *names), dataset_dir=data, ckpt_dir=runs, **settings)
        return [sys.executable, "-m", *arguments]

    whole, runs = tmp_path / "whole", tmp_path / "parts"

    status, said = strike(command(runs), runs, 2, signal.SIGINT)
    assert status == 130 and "interrupted" in said.splitlines() and "Traceback" not in said, said[-2000:]
    assert not [path.name for path in runs.iterdir() if path.name.startswith(".medsr")], "nothing temporary stays"
    for path in runs.glob("*.pt"):
        torch.load(path, weights_only=True)
    record, reached = record_of(runs), newest(runs)
    assert record["status"] == "interrupted" and record["error"] is None
    assert 2 <= reached < LONG["max_epochs"], "it was struck before its end"

    status, _ = strike(command(runs), runs, reached + 1, signal.SIGKILL)
    assert status == -signal.SIGKILL and record_of(runs)["status"] == "running"
    for path in runs.glob("*.pt"):
        torch.load(path, weights_only=True)
    again = newest(runs)
    assert reached < again < LONG["max_epochs"]
    (runs / ".medsr-0123456789ab.tmp").write_bytes(b"half a checkpoint, as a kill while saving leaves it")

    status, said = end(start(command(runs)))
    assert status == 0, said[-2000:]
    record = record_of(runs)
    assert record["status"] == "completed" and record["epochs"] == LONG["max_epochs"]
    assert [session["from_epoch"] for session in record["sessions"]] == [0, reached, again]

    status, said = end(start(command(whole)))
    assert status == 0, said[-2000:]
    for name in ("model.pt", f"checkpoint_epoch={LONG['max_epochs']}.pt", "best_psnr.pt"):
        assert_equal(torch.load(runs / name, weights_only=True), torch.load(whole / name, weights_only=True))
    assert [v["epoch"] for v in record["validations"]] == [4, 8]
    assert record["validations"] == record_of(whole)["validations"]
