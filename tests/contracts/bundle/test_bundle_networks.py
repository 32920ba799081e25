"""Every network overlay on every bundle: it is built, it trains, and inference takes its weights and definition."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_contract import (
    OVERLAYS,
    ROOT,
    TINY_TRAINING,
    config_files,
    merged_parser,
    refused,
    resolves,
    scan,
    targets,
    those_known,
    workflow_from,
    write_subjects,
)
from ignite.engine import Events

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.bundle.baselines import overlay_network
from medsr_monai.geometry import Grid
from medsr_monai.volumes import read_volume, write_volume

NETWORKS = sorted(path.stem for path in OVERLAYS.glob("network_*.json"))
NOT_STREAMED = {"network_rcan": "AdaptiveAvgPool"}
TINY = {
    "network_def#features": 4,
    "network_def#mapped_features": 4,
    "network_def#growth": 4,
    "network_def#num_groups": 1,
    "network_def#num_blocks": 2,
    "network_def#reduction": 2,
    "network_def#depth": 3,
    "discriminator_def#features": 4,
}


def overlay(name: str) -> Path:
    return OVERLAYS / f"{name}.json"


def training_files(bundle: Path, name: str) -> list[str]:
    stages = ["train", "train_gan"] if "discriminator_def" in json.loads(overlay(name).read_text()) else ["train"]
    return [*config_files(bundle, *stages), str(overlay(name)), str(OVERLAYS / "smoke.json")]


def inference_files(bundle: Path, name: str) -> list[str]:
    return [*config_files(bundle, "inference"), str(overlay(name))]


@pytest.fixture(scope="module")
def subjects(tmp_path_factory) -> Path:
    return write_subjects(tmp_path_factory.mktemp("subjects"))


@pytest.fixture(scope="module", params=NETWORKS)
def trained(bundle, subjects, request, tmp_path_factory) -> dict[str, Any]:
    """An overlay's tiny network after two iterations: its losses, its weights before, and where it was saved."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    files = training_files(bundle, request.param)
    parser = merged_parser(files)
    patch = parser.get_parsed_content("discriminator_def").min_size if "discriminator_def" in parser else 8
    sizes = {"patch_size": patch, "margin_size": patch + 4}
    settings = those_known(parser, {**TINY_TRAINING, **TINY, **sizes})
    workflow = workflow_from(
        bundle, files, **{**settings, "dataset_dir": str(subjects), "ckpt_dir": str(runs), "resume": False}
    )
    trainer = workflow.parser.get_parsed_content("train#trainer")
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    losses: list[dict[str, float]] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: losses.append({key: float(value) for key, value in engine.state.output["losses"].items()}),
    )
    workflow.run()
    return {"name": request.param, "workflow": workflow, "losses": losses, "before": before, "runs": runs}


def test_there_are_network_overlays():
    assert len(NETWORKS) >= 8


@pytest.mark.parametrize("name", NETWORKS)
def test_every_target_resolves(bundle, name):
    for files in (training_files(bundle, name), inference_files(bundle, name)):
        assert [target for target in targets(merged_parser(files).get()) if not resolves(target)] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_training_and_inference_build_the_same_network(bundle, name):
    made = []
    for files in (training_files(bundle, name), inference_files(bundle, name)):
        network = merged_parser(files).get_parsed_content("network_def")
        made.append({key: value.shape for key, value in network.state_dict().items()})
    assert made[0] == made[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_documentation_says_how_many_parameters_it_has(name):
    network = overlay_network(name.removeprefix("network_"), (2, 2, 2))
    (row,) = re.findall(rf"^\| `{name}` .*$", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert f"| {count:,} |" in row, f"{name}: {count:,} parameters"
    assert type(network).__name__ in row


def test_two_iterations_learn_something_finite(trained):
    assert len(trained["losses"]) == 2
    assert all(math.isfinite(value) for terms in trained["losses"] for value in terms.values())
    network = trained["workflow"].parser.get_parsed_content("train#trainer").network
    assert any(not torch.equal(trained["before"][key], value) for key, value in network.state_dict().items())


def test_the_optimiser_is_the_one_that_the_overlay_names(trained):
    named = json.loads(overlay(trained["name"]).read_text()).get("optimizer", {"_target_": "torch.optim.Adam"})
    trainer = trained["workflow"].parser.get_parsed_content("train#trainer")
    assert type(trainer.optimizer).__name__ == named["_target_"].rpartition(".")[2]
    betas = trainer.optimizer.param_groups[0].get("betas")
    assert betas is None or list(betas) == named.get("betas", [0.9, 0.99])


def inference(bundle: Path, trained: dict[str, Any], folder: Path, **settings: Any) -> np.ndarray:
    """What the saved weights make of a small image, with the overlay over inference.json."""
    shape = (6, 7, 5)
    write_volume(folder / "lr.nii", scan(5, shape), Grid(shape, np.eye(4)))
    files = inference_files(bundle, trained["name"])
    tiny = those_known(merged_parser(files), {**TINY, "progress": False})
    paths = {
        "input": str(folder / "lr.nii"),
        "output_dir": str(folder),
        "checkpoint": str(trained["runs"] / "model.pt"),
    }
    workflow_from(bundle, files, "inference", **{**tiny, **paths, **settings}).run()
    return read_volume(folder / "lr_sr.nii.gz").data


def test_inference_takes_the_saved_weights(bundle, trained, tmp_path):
    whole_image = {"inferer#inferer": {"_target_": "SimpleInferer"}}
    sr = inference(bundle, trained, tmp_path, **(whole_image if trained["name"] in NOT_STREAMED else {}))
    lr = scan(5, (6, 7, 5))
    acquisition = SeparableAcquisition.from_profile(sr.shape, lr.shape)
    again = acquisition.forward(torch.from_numpy(sr)[None, None])[0, 0].numpy()
    assert np.abs(again - lr).max() <= 1e-4 * np.ptp(lr)
    assert np.abs(sr - acquisition.pseudo_inverse(torch.from_numpy(lr)[None, None])[0, 0].numpy()).max() > 1e-3


def test_streamed_inference_is_that_of_the_whole_image_or_refused_by_name(bundle, trained, tmp_path):
    if trained["name"] in NOT_STREAMED:
        with refused("SlidingWindowInferer", NOT_STREAMED[trained["name"]]):
            inference(bundle, trained, tmp_path)
        return
    made = []
    for name, settings in {
        "stream": {"stream": "always", "slab": 2},
        "whole": {"stream": "never", "inferer#inferer": {"_target_": "SimpleInferer"}},
    }.items():
        (tmp_path / name).mkdir()
        made.append(inference(bundle, trained, tmp_path / name, **settings))
    assert np.abs(made[0] - made[1]).max() <= 1e-5 * np.ptp(made[1])
