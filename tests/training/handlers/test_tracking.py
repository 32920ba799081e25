"""configs/track_mlflow.json: the curves of a training are in a local store; without MLflow one line says what to do."""

from __future__ import annotations

import os
import sqlite3
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from medsr_monai.geometry import Grid
from medsr_monai.system import optional
from medsr_monai.system.errors import InputError, find_input_error
from medsr_monai.training.handlers import prepare_mlflow, tracking
from medsr_monai.volumes import write_volume

ROOT = Path(__file__).parents[3]
BUNDLE = ROOT / "bundles" / "brain_mri_super_resolution"
FILES = [BUNDLE / "configs" / "train.json", ROOT / "configs" / "track_mlflow.json"]
TINY = {
    "network_def#features": 4,
    "network_def#growth": 4,
    "network_def#dense_blocks": 1,
    "patch_size": 8,
    "margin_size": 12,
    "epoch_length": 2,
    "max_epochs": 1,
    "val_interval": 1,
    "warmup": 1,
    "num_workers": 0,
    "pictures": 0,
    "split": {"train": ["sub-01"], "val": ["sub-02"]},
}


@pytest.fixture(autouse=True)
def _untracked_before_and_after(monkeypatch, workflow_leaves_no_trace) -> None:
    """MLflow is told by variables of the environment."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def tracked(folder: Path) -> ConfigWorkflow:
    """A tiny training with the overlay, initialised."""
    rng = np.random.default_rng(0)
    for name in ("sub-01", "sub-02"):
        volume = 500 + 100 * rng.random((16, 16, 16), dtype=np.float32)
        write_volume(folder / "data" / f"{name}_T1w.nii.gz", volume, Grid((16, 16, 16), np.eye(4)))
    workflow = ConfigWorkflow(
        config_file=[str(file) for file in FILES],
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(BUNDLE),
        device=torch.device("cpu"),
        dataset_dir=str(folder / "data"),
        ckpt_dir=str(folder / "runs"),
        **TINY,
    )
    workflow.initialize()
    return workflow


@pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed: pip install 'medsr-monai[track]'")
def test_every_term_and_every_metric_is_in_the_store(tmp_path):
    tracked(tmp_path).run()
    with sqlite3.connect(tmp_path / "runs" / "mlflow.db") as store:
        runs = store.execute("select name, status from runs").fetchall()
        found = store.execute("select key, step from metrics order by key, step").fetchall()
    assert runs == [("runs", "FINISHED")], "trainer and evaluator share one run"
    assert {("iteration/pixel", 1), ("iteration/pixel", 2), ("iteration/unprojected", 2)} <= set(found)
    assert {("train_loss", 1), ("train_pixel", 1), ("psnr", 1), ("ssim", 1)} <= set(found)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_mlflow_is_silenced_although_it_was_imported_before(monkeypatch):
    renewed = []
    fake = SimpleNamespace(set_telemetry_client=lambda: renewed.append(os.environ["MLFLOW_DISABLE_TELEMETRY"]))
    monkeypatch.setattr(tracking, "require", lambda module, extra: SimpleNamespace(__version__="9.9"))
    monkeypatch.setattr(tracking, "import_module", {"mlflow.telemetry": fake}.__getitem__)
    prepare_mlflow()
    prepare_mlflow()  # set by now, as by the user: left alone
    assert renewed == ["true"]
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    del fake.set_telemetry_client
    with pytest.raises(InputError, match=r"MLflow 9\.9 .* MLFLOW_DISABLE_TELEMETRY=true"):
        prepare_mlflow()


def test_without_mlflow_one_line_says_which_extra(tmp_path, monkeypatch):
    def absent(module: str) -> ModuleType:
        if module == "mlflow":
            raise ModuleNotFoundError(f"No module named '{module}'", name=module)
        return import_module(module)

    monkeypatch.setattr(optional, "import_module", absent)
    with pytest.raises(RuntimeError) as caught:
        tracked(tmp_path)
    assert str(find_input_error(caught.value)) == "mlflow is not installed: pip install 'medsr-monai[track]'"
    assert not (tmp_path / "runs").exists(), "nothing is written"
