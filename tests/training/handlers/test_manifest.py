"""The manifest says what a run was made with, how long it took over all its sessions, and how it ended."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.system.provenance import canonical_json, file_digest
from medsr_monai.training.handlers import RunManifest
from medsr_monai.training.handlers.manifest import scalars
from medsr_monai.volumes import write_volume

BUNDLE = Path(__file__).resolve().parents[3] / "bundles" / "brain_mri_super_resolution"
CONFIG = {"learning_rate": 1e-3, "scale": [2, 2, 2], "network_def": {"features": 4}}
LENGTH = 3


@pytest.fixture
def splits(tmp_path) -> dict[str, list[str]]:
    folder = tmp_path / "data" / "of-someone"
    folder.mkdir(parents=True)
    for name in "abc":
        (folder / f"{name}.nii").write_text(name)
    return {"train": [str(folder / "a.nii"), str(folder / "b.nii")], "val": [str(folder / "c.nii")], "test": []}


def run(path: Path, splits, epochs: int, resume_at: int = 0, step=None, config=None) -> dict:
    """A training of iterations that return losses, validated after each epoch, and its manifest."""
    step = step or (lambda engine, batch: {"loss": torch.tensor(1.0 / engine.state.iteration), "pred": torch.ones(3)})
    trainer, evaluator = Engine(step), Engine(lambda engine, batch: None)
    trainer.state.max_epochs, trainer.state.epoch_length = epochs, LENGTH
    trainer.state.epoch, trainer.state.iteration = resume_at, resume_at * LENGTH

    def validate(engine: Engine) -> None:
        def measure(inner: Engine) -> None:
            inner.state.epoch = engine.state.epoch
            inner.state.metrics.update(psnr=30.0 + engine.state.epoch, gain=float("inf"))

        evaluator = Engine(lambda inner, batch: None)
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, measure)
        evaluator.add_event_handler(Events.COMPLETED, manifest.add_validation)
        evaluator.run([0])

    manifest = RunManifest(path, config or CONFIG, splits, seed=5, device="cpu")
    manifest.attach(trainer, evaluator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    trainer.run_on = lambda: Engine.run(trainer, range(LENGTH), max_epochs=epochs)

    class Runner:
        state = trainer.state

        def run(self) -> None:
            trainer.run_on()

    manifest.run(Runner())
    return json.loads(path.read_text())


def test_what_a_complete_run_leaves(tmp_path, splits):
    found = run(tmp_path / "runs" / "run.json", splits, epochs=2)
    assert found["status"] == "completed" and found["error"] is None
    assert found["epochs"] == found["max_epochs"] == 2 and found["iterations"] == 2 * LENGTH
    assert found["losses"] == {"loss": pytest.approx(1 / (2 * LENGTH))}
    assert found["seed"] == 5 and found["device"].startswith("cpu: ")
    assert found["versions"]["torch"] == torch.__version__ and found["versions"]["numpy"] == np.__version__
    assert set(found["versions"]) == {"python", "medsr_monai", "torch", "monai", "ignite", "numpy"}
    assert found["config"] == CONFIG
    text = '{"learning_rate":0.001,"network_def":{"features":4},"scale":[2,2,2]}'
    assert found["config_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    metrics = [(row["epoch"], row["metrics"]) for row in found["validations"]]
    assert metrics == [(1, {"psnr": 31.0, "gain": "inf"}), (2, {"psnr": 32.0, "gain": "inf"})]
    (session,) = found["sessions"]
    assert session["from_epoch"] == 0 and session["status"] == "completed"
    assert session["seconds"] == found["seconds"] > 0
    times = [datetime.fromisoformat(session[key]) for key in ("started", "ended")]
    assert times[0] <= times[1] and times[0].utcoffset().total_seconds() == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run.json"]


def test_files_have_a_name_and_a_digest_and_no_folder(tmp_path, splits):
    found = run(tmp_path / "run.json", splits, epochs=1)
    digest = hashlib.sha256(b"a").hexdigest()
    assert found["splits"]["train"][0] == {"name": "a.nii", "sha256": digest}
    assert {name: len(files) for name, files in found["splits"].items()} == {"train": 2, "val": 1, "test": 0}
    assert "of-someone" not in (tmp_path / "run.json").read_text()


def test_while_it_runs_the_record_says_so(tmp_path, splits):
    seen = []

    def step(engine: Engine, batch: int) -> dict:
        seen.append(json.loads((tmp_path / "run.json").read_text()))
        return {"loss": 1.0}

    run(tmp_path / "run.json", splits, epochs=2, step=step)
    assert [found["status"] for found in seen] == ["running"] * 2 * LENGTH
    assert [found["epochs"] for found in seen] == [0] * LENGTH + [1] * LENGTH
    assert [len(found["validations"]) for found in seen] == [0] * LENGTH + [1] * LENGTH


def test_a_resumed_run_goes_on_with_the_record(tmp_path, splits):
    path = tmp_path / "run.json"
    first = run(path, splits, epochs=3)
    # The checkpoint was one of epoch 2: what was validated after it is done again.
    second = run(path, splits, epochs=4, resume_at=2, config={**CONFIG, "learning_rate": 1.0})
    assert second["status"] == "completed" and second["epochs"] == 4 and second["iterations"] == 4 * LENGTH
    assert second["started"] == first["started"]
    assert [row["epoch"] for row in second["validations"]] == [1, 2, 3, 4]
    assert [session["from_epoch"] for session in second["sessions"]] == [0, 2]
    assert second["seconds"] == pytest.approx(sum(session["seconds"] for session in second["sessions"]), abs=2e-3)
    assert second["sessions"][0] == first["sessions"][0]
    assert second["config_sha256"] == second["sessions"][1]["config_sha256"] != first["config_sha256"]


def test_a_run_from_the_start_has_a_record_of_its_own(tmp_path, splits):
    run(tmp_path / "run.json", splits, epochs=3)
    again = run(tmp_path / "run.json", splits, epochs=1)
    assert len(again["sessions"]) == len(again["validations"]) == 1


@pytest.mark.parametrize(
    "error, status, line",
    [
        (KeyboardInterrupt(), "interrupted", None),
        (FloatingPointError("the loss is nan\nand more"), "failed", "FloatingPointError: the loss is nan"),
        (SystemExit(2), "failed", "SystemExit: 2"),
    ],
    ids=["user", "error", "exit"],
)
def test_how_it_ended(error, status, line, tmp_path, splits):
    def step(engine: Engine, batch: int) -> dict:
        if engine.state.iteration == LENGTH + 2:
            raise error
        return {"loss": 1.0}

    with pytest.raises(type(error)):
        run(tmp_path / "run.json", splits, epochs=3, step=step)
    found = json.loads((tmp_path / "run.json").read_text())
    assert (found["status"], found["error"], found["epochs"]) == (status, line, 1)
    assert found["sessions"][-1]["status"] == status and "ended" in found["sessions"][-1]


def test_a_run_that_a_handler_ended_is_not_complete(tmp_path, splits):
    def step(engine: Engine, batch: int) -> dict:
        if engine.state.iteration == LENGTH:
            engine.terminate()
        return {"loss": 1.0}

    assert run(tmp_path / "run.json", splits, epochs=3, step=step)["status"] == "interrupted"


def test_an_error_before_the_first_iteration_is_recorded(tmp_path, splits):
    class Runner:
        state = Engine(lambda engine, batch: None).state

        def run(self) -> None:
            raise InputError("no such image")

    with pytest.raises(InputError, match="no such image"):
        RunManifest(tmp_path / "run.json", CONFIG, splits, seed=0, device="cpu").run(Runner())
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["status"] == "failed" and found["error"] == "InputError: no such image" and found["epochs"] == 0


def test_a_file_that_is_missing_is_one_line(tmp_path, splits):
    with pytest.raises(InputError, match=r"nowhere\.nii: cannot read: No such file"):
        run(tmp_path / "run.json", {**splits, "test": [str(tmp_path / "nowhere.nii")]}, epochs=1)


def test_a_damaged_record_is_one_line(tmp_path, splits):
    (tmp_path / "run.json").write_text("half a {")
    with pytest.raises(InputError, match=r"run\.json: cannot read: .*; remove it to start a new record"):
        run(tmp_path / "run.json", splits, epochs=2, resume_at=1)


def test_only_the_first_process_writes(tmp_path, splits, monkeypatch):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "run.json", splits, epochs=1)


def test_numbers_of_an_output():
    output = {"loss": torch.tensor([2.0]), "terms": {"l1": 0.5, "adversarial": torch.tensor(3)}, "pred": torch.ones(2)}
    assert scalars(output) == {"loss": 2.0, "l1": 0.5, "adversarial": 3.0}
    assert scalars([output, {"loss": 9.0}]) == scalars(output)
    assert scalars(None) == scalars([]) == {}


def test_equal_settings_have_equal_text_and_a_folder_a_digest(tmp_path):
    assert canonical_json({"b": 1, "a": (1, 2)}) == canonical_json({"a": [1, 2], "b": 1}) == '{"a":[1,2],"b":1}'
    assert canonical_json({"device": torch.device("cpu"), "x": float("inf")}) == '{"device":"cpu","x":"inf"}'
    (tmp_path / "1").write_text("one")
    before = file_digest(tmp_path)
    (tmp_path / "1").write_text("two")
    assert file_digest(tmp_path) != before


# ---- in a bundle


OVERLAY = {
    "manifest": {
        "_target_": "medsr_monai.RunManifest",
        "path": "$@ckpt_dir + '/run.json'",
        "config": {"_target_": "medsr_monai.merged_config"},
        "splits": "@splits",
        "seed": "@seed",
        "device": "@device",
    },
    "best": {
        "_target_": "medsr_monai.BestCheckpoint",
        "directory": "@ckpt_dir",
        "network": "$@ema.ema_model",
        "metric": "psnr",
        "resume": "@resume",
    },
    "+validate#handlers": [
        "@best",
        {"_target_": "medsr_monai.ThreePlaneImages", "log_dir": "@ckpt_dir", "cases": 1},
    ],
    "run": [
        "$@ema.attach(@train#trainer, name='ema_momentum')",
        "$@checkpoint.attach(@train#trainer)",
        "$@checkpoint.resume(@train#trainer) if @resume else None",
        "$@manifest.attach(@train#trainer, @validate#evaluator)",
        "$@manifest.run(@train#trainer)",
    ],
}


@pytest.mark.usefixtures("workflow_leaves_no_trace")
def test_a_bundle_that_is_trained_twice_has_one_manifest(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(3):
        path = tmp_path / "data" / f"sub-0{index}_T1w.nii.gz"
        write_volume(path, rng.random((24, 24, 24), dtype=np.float32) + 0.5, Grid((24, 24, 24), np.eye(4)))
    overlay = tmp_path / "overlay.json"
    overlay.write_text(json.dumps(OVERLAY))
    settings = {"patch_size": 8, "margin_size": 12, "batch_size": 2, "epoch_length": 2, "val_interval": 1, "warmup": 1}
    settings |= {"num_workers": 0, "network_def#features": 4, "network_def#growth": 4}
    for epochs in (1, 2):
        workflow = ConfigWorkflow(
            config_file=[str(BUNDLE / "configs" / "train.json"), str(overlay)],
            meta_file=str(BUNDLE / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="train",
            bundle_root=str(BUNDLE),
            device="cpu",
            dataset_dir=str(tmp_path / "data"),
            ckpt_dir=str(tmp_path / "runs"),
            max_epochs=epochs,
            **settings,
        )
        workflow.initialize()
        workflow.run()
        found = json.loads((tmp_path / "runs" / "run.json").read_text())
        assert found["status"] == "completed" and found["epochs"] == found["config"]["max_epochs"] == epochs
    assert found["iterations"] == 4 and found["losses"]["loss"] > 0
    assert [row["epoch"] for row in found["validations"]] == [1, 2]
    assert [session["from_epoch"] for session in found["sessions"]] == [0, 1]
    assert found["config"]["patch_size"] == 8 and found["config"]["network_def"]["features"] == 4
    assert found["config"]["optimizer"]["params"] == "$@network.parameters()", "before evaluation"
    assert sorted(file["name"] for files in found["splits"].values() for file in files) == [
        f"sub-0{index}_T1w.nii.gz" for index in range(3)
    ]
    best = json.loads((tmp_path / "runs" / "best_psnr.json").read_text())
    assert best["best"] == pytest.approx(max(row["metrics"]["psnr"] for row in found["validations"]))
