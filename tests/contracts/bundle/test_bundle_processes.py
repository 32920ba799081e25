"""Two processes that share a batch train what one process trains with the whole of it."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_contract import TINY_TRAINING, config_files, run_arguments, write_subjects

EPOCHS = 2
STAGES = {"fidelity": ["train"], "gan": ["train", "train_gan"]}
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
PATIENCE = 300  # seconds; processes that wait for each other for ever are a failure


def run(command: list[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of ``python -m ...``."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def losses_of(runs: Path) -> dict[str, list[float]]:
    """Every term by iteration, from the curves."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(runs))
    curves.Reload()
    tags = [tag for tag in curves.Tags()["scalars"] if tag.startswith("iteration/")]
    return {tag.removeprefix("iteration/"): [event.value for event in curves.Scalars(tag)] for tag in tags}


class Trainings:
    """Trainings of one stage on the same images, by one process or two."""

    def __init__(self, bundle: Path, weights: Path, folder: Path, stage: str) -> None:
        self.bundle, self.weights, self.folder, self.stage = bundle, weights, folder, stage
        self.data = write_subjects(folder / "data")

    def train(self, processes: int, name: str, resumed: Path | None = None) -> Path:
        """Train with four samples per step in all; the folder of what came of it."""
        runs = self.folder / name
        if resumed is not None:
            runs.mkdir()
            shutil.copy(resumed / "checkpoint_epoch=1.pt", runs)
        settings = {**TINY_TRAINING, "max_epochs": EPOCHS, "batch_size": 4 // processes, "device": "cpu"}
        names = STAGES[self.stage]
        if processes > 1:
            names = [*names, "multi_gpu_train"]
            settings.pop("device")
        arguments = run_arguments(
            self.bundle,
            config_files(self.bundle, *names),
            dataset_dir=self.data,
            ckpt_dir=runs,
            initial_weights=self.weights,
            **settings,
        )
        status, out, err = run([*(TORCHRUN if processes > 1 else []), *arguments])
        assert status == 0, (out + err)[-3000:]
        return runs


@pytest.fixture(scope="module", params=STAGES)
def trainings(request, bundle, tiny_weights, tmp_path_factory) -> dict[str, Any]:
    made = Trainings(bundle, tiny_weights, tmp_path_factory.mktemp(request.param), request.param)
    return {"made": made, "one": made.train(1, "one"), "two": made.train(2, "two")}


def assert_same_end(one: Path, two: Path) -> None:
    """The generator's weights, up to the order in which floats were added."""
    first, second = (torch.load(path / "model.pt", weights_only=True) for path in (one, two))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=2e-6, msg=name)
    first, second = (torch.load(path / f"checkpoint_epoch={EPOCHS}.pt", weights_only=True) for path in (one, two))
    for name, value in first["network"].items():
        torch.testing.assert_close(second["network"][name], value, rtol=1e-3, atol=2e-5, msg=name)
    assert first.get("discriminator", {}).keys() == second.get("discriminator", {}).keys()


def assert_same_losses(one: dict[str, list[float]], two: dict[str, list[float]]) -> None:
    """Term by term. Of the relativistic verdicts only the gap counts: where both lie, no loss says, and Adam makes a
    walk of the rounding errors. The gap itself, a difference of two large numbers, keeps three digits."""
    assert one.keys() == two.keys() and {"pixel", "unprojected"} <= one.keys()
    one, two = ({**terms, "gap": gap(terms)} for terms in (one, two))
    for term, values in one.items():
        assert all(math.isfinite(value) for value in values)
        if not term.startswith("verdict_"):
            assert two[term] == pytest.approx(values, rel=1e-3 if term == "gap" else 1e-4, abs=1e-5), term


def gap(terms: dict[str, list[float]]) -> list[float]:
    """How much more real the references look, iteration by iteration."""
    sides = terms.get("verdict_real", []), terms.get("verdict_fake", [])
    return [real - fake for real, fake in zip(*sides, strict=True)]


@pytest.mark.slow
def test_losses_and_weights_are_those_of_one_process(trainings):
    one, two = losses_of(trainings["one"]), losses_of(trainings["two"])
    assert len(one["pixel"]) == EPOCHS * TINY_TRAINING["epoch_length"]
    assert_same_losses(one, two)
    assert_same_end(trainings["one"], trainings["two"])


@pytest.mark.slow
def test_the_first_process_alone_writes(trainings):
    files = {key: {p.name for p in trainings[key].iterdir() if "tfevents" not in p.name} for key in ("one", "two")}
    assert files["one"] == files["two"] and {"run.json", "model.pt", "checkpoint_epoch=2.pt"} <= files["one"]
    record = json.loads((trainings["two"] / "run.json").read_text())
    assert record["status"] == "completed" and len(record["sessions"]) == 1
    assert len(record["validations"]) == EPOCHS


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [("two", 1), ("one", 2)], ids=["two-then-one", "one-then-two"])
def test_either_goes_on_from_the_other_s_checkpoint(trainings, first, then):
    resumed = trainings["made"].train(then, f"{first} resumed", resumed=trainings[first])
    whole = losses_of(trainings["one"])
    assert_same_losses({term: values[-2:] for term, values in whole.items()}, losses_of(resumed))
    assert_same_end(trainings["one"], resumed)


@pytest.mark.slow
def test_started_without_torchrun_it_is_one_line(bundle, tmp_path):
    files = config_files(bundle, "train", "multi_gpu_train")
    arguments = run_arguments(bundle, files, dataset_dir=write_subjects(tmp_path / "data"), ckpt_dir=tmp_path / "runs")
    status, out, err = run(arguments)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(errors) == 1 and "torchrun" in errors[0] and "Traceback" not in out + err
    assert not (tmp_path / "runs").exists()
