"""The best weights stay, also over a resumed training, and a metric that nobody measures is an error."""

from __future__ import annotations

import json
import math
from pathlib import Path

import ignite.distributed as idist
import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from medsr_monai.system.errors import InputError
from medsr_monai.training.handlers import BestCheckpoint


def validate(folder: Path, values: list[float], first_epoch: int = 1, metric: str = "psnr", **settings) -> list[float]:
    """One validation per value; the network's only weight is its epoch. Returns the epochs saved, in order."""
    network = nn.Linear(1, 1, bias=False)
    checkpoint = BestCheckpoint(folder, network, metric, **settings)
    saved = []
    for epoch, value in enumerate(values, start=first_epoch):
        evaluator = Engine(lambda engine, batch: batch)
        nn.init.constant_(network.weight, epoch)

        def measure(engine, value=value, epoch=epoch):
            engine.state.metrics["psnr"] = value
            engine.state.epoch = epoch

        checkpoint.attach(evaluator)
        # Attached later, as the metrics of an evaluator may be.
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, measure)
        evaluator.run([0])
        now = float(torch.load(checkpoint.path, weights_only=True)["weight"]) if checkpoint.path.exists() else 0.0
        if not saved or saved[-1] != now:
            saved.append(now)
    return saved


def test_only_better_ones_replace(tmp_path):
    assert validate(tmp_path, [30.0, 29.0, 31.0, 31.0, 30.5]) == [1, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best_psnr.json", "best_psnr.pt"]
    record = json.loads((tmp_path / "best_psnr.json").read_text())
    assert record == {"metric": "psnr", "mode": "max", "best": 31.0, "epoch": 3}


def test_the_smallest_may_be_the_best(tmp_path):
    assert validate(tmp_path, [3.0, 4.0, 2.0, 2.5], mode="min", name="nearest.pt") == [1, 3]
    assert (tmp_path / "nearest.pt").exists()


def test_a_resumed_training_compares_with_its_earlier_best(tmp_path):
    validate(tmp_path, [30.0, 32.0])
    assert validate(tmp_path, [31.0, 33.0], first_epoch=3) == [2, 4]
    assert validate(tmp_path, [1.0], first_epoch=9, resume=False) == [9]


def test_an_infinite_best_is_remembered(tmp_path):
    validate(tmp_path, [math.inf])
    assert validate(tmp_path, [50.0], first_epoch=2) == [1]


def test_a_record_without_weights_does_not_count(tmp_path):
    validate(tmp_path, [30.0])
    (tmp_path / "best_psnr.pt").unlink()
    assert validate(tmp_path, [20.0], first_epoch=2) == [2]


def test_a_metric_that_is_not_measured_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no metric is named 'pnsr'; the evaluator measures psnr$"):
        validate(tmp_path, [30.0], metric="pnsr")
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_ends_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match="validation of epoch 1: psnr is not a number"):
        validate(tmp_path, [math.nan])


@pytest.mark.parametrize(
    "text, message",
    [
        ("half a {", r"best_psnr\.json: cannot read: .*; remove it or set 'resume' to false"),
        ("[1]", "is not a JSON object"),
        ('{"metric": "psnr", "mode": "max"}', "has no 'best'"),
        ('{"metric": "ssim", "mode": "max", "best": 1}', r"best ssim \(max\), now psnr \(max\)"),
        ('{"metric": "psnr", "mode": "min", "best": 1}', r"best psnr \(min\), now psnr \(max\)"),
    ],
)
def test_a_damaged_or_foreign_record_is_one_line(text, message, tmp_path):
    validate(tmp_path, [30.0])
    (tmp_path / "best_psnr.json").write_text(text)
    with pytest.raises(InputError, match=message):
        validate(tmp_path, [31.0])


def test_a_mode_that_is_none_is_one_line(tmp_path):
    with pytest.raises(InputError, match="mode 'largest'"):
        validate(tmp_path, [], mode="largest")


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    assert validate(tmp_path, [30.0]) == [0]
    assert list(tmp_path.iterdir()) == []
