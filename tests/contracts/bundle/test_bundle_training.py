"""Every bundle trains, resumes, and refuses images that do not serve."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from bundle_contract import CREATED, SUBJECTS, TINY_TRAINING, parser_of, refused, scan, those_known, workflow_of
from ignite.engine import Events
from monai.bundle import ConfigWorkflow, load

from medsr_monai.bundle.workflows import has_weights
from medsr_monai.geometry import Grid
from medsr_monai.volumes import write_volume

CREATED_BUNDLES = tuple(CREATED)


def count_iterations(workflow: ConfigWorkflow) -> list[float]:
    losses: list[float] = []
    trainer = workflow.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss"])))
    return losses


@pytest.fixture(scope="module")
def trained(bundle, tmp_path_factory) -> dict[str, Any]:
    """A bundle trained for two iterations on three subjects, and what came of it."""
    folder = tmp_path_factory.mktemp("trained")
    for index, name in enumerate(SUBJECTS):
        grid = Grid((24, 24, 24), np.diag([1.0, -1.1, 0.9, 1.0]))
        write_volume(folder / "data" / f"{name}_T1w.nii.gz", scan(index), grid)
    known = those_known(parser_of(bundle, "train"), TINY_TRAINING)
    settings = {**known, "dataset_dir": str(folder / "data"), "ckpt_dir": str(folder / "runs")}
    workflow = workflow_of(bundle, "train", **settings)
    losses = count_iterations(workflow)
    workflow.run()
    return {"workflow": workflow, "losses": losses, "settings": settings, "folder": folder}


def test_training_runs_validates_and_saves(trained):
    assert len(trained["losses"]) == 2 and all(map(math.isfinite, trained["losses"]))
    names = {path.name for path in (trained["folder"] / "runs").iterdir()}
    assert {"checkpoint_epoch=1.pt", "model.pt"} <= names
    assert not any(name.startswith(".medsr") or name.endswith(".tmp") for name in names)


def test_monai_finds_all_it_needs_for_training(trained):
    assert trained["workflow"].check_properties() == []


def test_federated_statistics_find_the_training_images(trained):
    assert len(trained["workflow"].train_dataset_data) == 1


def metric_names(node: Any) -> Iterator[str]:
    """Metrics that a handler waits for by name."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("key_metric_name", "metric_name") and isinstance(value, str):
                yield value
            yield from metric_names(value)
    elif isinstance(node, list):
        for value in node:
            yield from metric_names(value)


def test_every_metric_named_is_measured(trained):
    parser = trained["workflow"].parser
    evaluator = parser.get_parsed_content("validate#evaluator")
    key_metrics = list(parser["validate#key_metric"])
    additional = list(parser["validate#additional_metrics"]) if "validate#additional_metrics" in parser else []
    named = {*key_metrics, *additional, *metric_names(parser.get())}
    assert len(key_metrics) == 1 and evaluator.state.key_metric_name == key_metrics[0]
    assert named <= set(evaluator.state.metrics)
    assert all(math.isfinite(evaluator.state.metrics[name]) for name in named)
    assert evaluator.state.best_metric == evaluator.state.metrics[key_metrics[0]]


def test_sets_do_not_share_a_subject(trained):
    splits = trained["workflow"].parser.get_parsed_content("splits")
    assert sorted(len(splits[name]) for name in splits) == [1, 1, 1]
    assert len({file for part in splits.values() for file in part}) == 3


def test_training_resumes_where_it_stopped(bundle, trained, tmp_path):
    (tmp_path / "checkpoint_epoch=1.pt").write_bytes((trained["folder"] / "runs/checkpoint_epoch=1.pt").read_bytes())
    again = {**trained["settings"], "ckpt_dir": str(tmp_path), "max_epochs": 2}
    workflow = workflow_of(bundle, "train", **again)
    losses = count_iterations(workflow)
    workflow.run()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    assert (trainer.state.epoch, trainer.state.iteration, len(losses)) == (2, 4, 2)
    assert (tmp_path / "checkpoint_epoch=2.pt").is_file()

    anew = workflow_of(bundle, "train", **{**again, "ckpt_dir": str(tmp_path / "anew"), "resume": False})
    from_the_start = count_iterations(anew)
    anew.run()
    # The first epoch is the one that was resumed from; the second must be the same with and without interruption.
    assert from_the_start == pytest.approx(trained["losses"] + losses, rel=1e-6)


def test_training_without_images_is_refused(bundle, tmp_path):
    (tmp_path / "data").mkdir()
    with refused(str(tmp_path / "data")):
        workflow_of(bundle, "train", dataset_dir=str(tmp_path / "data"), ckpt_dir=str(tmp_path / "runs")).run()


@pytest.mark.parametrize("name", ["network_def", "network"])
def test_a_network_is_built_without_data(bundle, tmp_path, name):
    parser = parser_of(bundle, "train")
    parser.update({"dataset_dir": str(tmp_path / "none"), "device": "cpu"})
    assert isinstance(parser.get_parsed_content(name), torch.nn.Module)


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_monai_loads_the_network_and_its_weights_without_data(bundle, kind):
    if not has_weights(bundle):
        pytest.skip("not trained yet")
    network = load(bundle.name, bundle_dir=str(bundle.parent), workflow_type=kind, device="cpu")
    shipped = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, shipped[name]) for name, value in network.state_dict().items())
    workflow = workflow_of(bundle, kind, kind=kind, dataset_dir="none")
    assert type(workflow.network_def) is type(network)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "truncated"),
        (
            lambda path: write_volume(path, np.stack([scan(0), scan(1)], axis=-1), Grid((24, 24, 24), np.eye(4))),
            "a series of 2 volumes",
        ),
    ],
    ids=["truncated", "series"],
)
def test_a_training_image_that_does_not_serve_is_refused(bundle, tmp_path, spoil, said):
    grid = Grid((24, 24, 24), np.eye(4))
    for index, name in enumerate(SUBJECTS):
        write_volume(tmp_path / "data" / f"{name}_T1w.nii.gz", scan(index), grid)
    known = those_known(parser_of(bundle, "train"), TINY_TRAINING)
    split = {"train": [SUBJECTS[0]], "val": [SUBJECTS[1]]}
    settings = {**known, "dataset_dir": str(tmp_path / "data"), "ckpt_dir": str(tmp_path / "runs"), "split": split}
    spoil(tmp_path / "data" / f"{SUBJECTS[0]}_T1w.nii.gz")
    with refused(said):
        workflow_of(bundle, "train", **settings).run()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"device": "cuda:99"}, "device 'cuda:99'"),
        ({"batch_size": 0}, "batch_size '0'"),
        ({"epoch_length": -1}, "epoch_length '-1'"),
        ({"max_epochs": "foo"}, "max_epochs 'foo'"),
        ({"patch_size": 0}, "patch_size '0'"),
        ({"patch_size": 9}, "patch_size 9"),
        ({"learning_rate": "fast"}, "learning_rate 'fast'"),
        ({"profile": "foo"}, "profile 'foo'"),
        ({"split": {"train": ["sub-01"], "val": ["sub-03"]}}, "sub-03_T1w.nii.gz: axis 1 has 10 voxels"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_settings_are_refused_before_training(bundle, tmp_path, setting, said):
    for index, shape in enumerate([(24, 24, 24), (24, 24, 24), (24, 10, 24)]):
        path = tmp_path / "data" / f"{SUBJECTS[index]}_T1w.nii.gz"
        write_volume(path, scan(index, shape), Grid(shape, np.eye(4)))
    known = those_known(parser_of(bundle, "train"), TINY_TRAINING)
    settings = {
        **known,
        "dataset_dir": str(tmp_path / "data"),
        "ckpt_dir": str(tmp_path / "runs"),
        "split": {"train": ["sub-01"], "val": ["sub-02"]},
    }
    with refused(said):
        workflow_of(bundle, "train", **{**settings, **setting}).run()
    assert not (tmp_path / "runs").exists(), "nothing is written"
