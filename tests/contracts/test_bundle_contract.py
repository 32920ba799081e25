"""One contract over every bundle: its files, its configurations from training to inference, and its export."""

from __future__ import annotations

import csv
import json
import math
import runpy
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ComponentLocator, ConfigParser, ConfigWorkflow
from monai.utils import set_determinism
from monai.utils.module import optional_import

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.geometry import Grid, corner_error_mm
from medsr_monai.volumes import read_volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "tests" / "schema" / "metadata_schema.json"
BUNDLES = sorted(path.parent.parent for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
MEGABYTE = 2**20

# What MONAI's tools look up; which of it a bundle may leave out is left to MONAI's own check_properties.
INFERENCE_KEYS = [
    "bundle_root",
    "device",
    "network_def",
    "inferer",
    "output_dir",
    "dataset",
    "dataset#data",
    "evaluator",
]
TRAIN_KEYS = [
    "bundle_root",
    "device",
    "dataset_dir",
    "network_def",
    "train#trainer",
    "train#trainer#max_epochs",
    "train#dataset",
    "train#inferer",
    "train#handlers",
    "train#preprocessing",
    "validate#dataset",
    "validate#dataset#data",
    "validate#inferer",
    "validate#preprocessing",
    "validate#postprocessing",
    "validate#key_metric",
    "validate#handlers",
    "validate#evaluator",
    "val_interval",
]

TINY_NETWORK = {"network_def#features": 4, "network_def#growth": 4}
TINY_TRAINING = {
    **TINY_NETWORK,
    "patch_size": 8,
    "margin_size": 12,
    "batch_size": 2,
    "epoch_length": 2,
    "max_epochs": 1,
    "val_interval": 1,
    "warmup": 1,
    "num_workers": 0,
}
SUBJECTS = ("sub-01", "sub-02", "sub-03")


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda path: path.name)
def bundle(request) -> Path:
    return request.param


@pytest.fixture(autouse=True)
def _leave_no_trace(monkeypatch) -> Iterator[None]:
    """A workflow seeds the global generators and puts its folder on the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    set_determinism(None)
    np.random.set_state(state[0])  # noqa: NPY002
    torch.set_rng_state(state[1])


def config_files(bundle: Path, *names: str) -> list[str]:
    return [str(bundle / "configs" / f"{name}.json") for name in names]


def parser_of(bundle: Path, *names: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(config_files(bundle, *names))
    return parser


def those_known(parser: ConfigParser, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that this bundle's configuration has."""
    return {key: value for key, value in settings.items() if key in parser}


def workflow_of(bundle: Path, *names: str, kind: str = "train", **settings: Any) -> ConfigWorkflow:
    """An initialised workflow on the CPU; settings that the configuration does not have are an error."""
    unknown = sorted(key for key in settings if key not in parser_of(bundle, *names))
    assert not unknown, f"{bundle.name} {names}: no {unknown}"
    workflow = ConfigWorkflow(
        config_file=config_files(bundle, *names),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **{"bundle_root": str(bundle), "device": torch.device("cpu"), **settings},
    )
    workflow.initialize()
    return workflow


def monai_bundle(monkeypatch, *arguments: str) -> None:
    """``python -m monai.bundle ...`` without another interpreter."""
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *arguments])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_module("monai.bundle", run_name="__main__")


# ---- files


def test_there_are_bundles():
    assert BUNDLES


def test_required_files_are_there(bundle):
    for name in ("LICENSE", "configs/metadata.json", "configs/inference.json", "configs/train.json"):
        assert (bundle / name).stat().st_size > 0, name
    assert not list(bundle.rglob("*.py")), "a bundle is data: Python lies in the package"


def test_every_json_parses(bundle):
    for path in sorted((bundle / "configs").glob("*.json")):
        assert isinstance(json.loads(path.read_text()), dict), path


@pytest.mark.parametrize("config, keys", [("inference", INFERENCE_KEYS), ("train", TRAIN_KEYS)])
def test_keys_that_the_tools_look_up_exist(bundle, config, keys):
    parser = parser_of(bundle, config)
    assert [key for key in keys if key not in parser] == []


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


@cache
def locator() -> ComponentLocator:
    """MONAI's own; it looks through every module once."""
    return ComponentLocator()


def resolves(target: str) -> bool:
    if target.startswith(("$", "@")):
        return True
    module = locator().get_component_module_name(target)
    if isinstance(module, str):
        return True
    if module:  # several modules of MONAI have that name: the one meant must be written out
        return False
    found, ok = optional_import(target.rpartition(".")[0], name=target.rpartition(".")[2])
    return ok and callable(found)


def overlays(bundle: Path) -> list[str]:
    """Configurations that are laid over train.json."""
    own = {"metadata", "inference", "train"}
    return sorted(path.stem for path in (bundle / "configs").glob("*.json") if path.stem not in own)


def test_every_target_resolves(bundle):
    for names in (["inference"], ["train"], *(["train", overlay] for overlay in overlays(bundle))):
        found = list(targets(parser_of(bundle, *names).get()))
        assert found or names == ["train", "multi_gpu_train"], names
        assert [target for target in found if not resolves(target)] == [], names


def test_a_target_that_does_not_exist_would_be_noticed():
    assert not resolves("medsr_monai.networks.RRDBNetwork") and not resolves("NoSuchTransformd")
    assert resolves("medsr_monai.networks.RRDBNet") and resolves("SpatialPadd") and resolves("torch.nn.L1Loss")


def resolved_network(bundle: Path, config: str) -> dict[str, Any]:
    parser = parser_of(bundle, config)
    definition = dict(parser["network_def"])
    return {
        key: parser[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        for key, value in definition.items()
    }


def test_training_and_inference_have_the_same_network(bundle):
    assert resolved_network(bundle, "train") == resolved_network(bundle, "inference")


# ---- metadata


def test_metadata_follow_the_specification(bundle, monkeypatch):
    before = SCHEMA.read_bytes()
    meta_file = str(bundle / "configs" / "metadata.json")
    monai_bundle(monkeypatch, "verify_metadata", "--meta_file", meta_file, "--filepath", str(SCHEMA))
    assert SCHEMA.read_bytes() == before, "the schema must not be replaced by a download"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda meta: meta.pop("authors"),
        lambda meta: meta.pop("required_packages_version"),
        lambda meta: meta.update(version=1),
        lambda meta: meta["network_data_format"].pop("outputs"),
        lambda meta: meta["network_data_format"]["inputs"]["image"].pop("dtype"),
        lambda meta: meta["network_data_format"]["inputs"]["image"].update(spatial_shape=[0, 4]),
        lambda meta: meta["network_data_format"]["outputs"]["pred"].update(value_range=[0]),
    ],
    ids=["no-authors", "no-packages", "version-number", "no-outputs", "no-dtype", "empty-axis", "half-a-range"],
)
def test_metadata_that_break_the_specification_are_noticed(bundle, spoil, tmp_path, monkeypatch):
    meta = json.loads((bundle / "configs" / "metadata.json").read_text())
    meta.pop("optional_packages_version", None)
    spoil(meta)
    (tmp_path / "metadata.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="Failed validating"):
        monai_bundle(
            monkeypatch, "verify_metadata", "--meta_file", str(tmp_path / "metadata.json"), "--filepath", str(SCHEMA)
        )


def test_metadata_say_what_the_network_takes_and_gives(bundle, monkeypatch):
    monai_bundle(
        monkeypatch,
        "verify_net_in_out",
        *("--net_id", "network_def", "--device", "cpu", "--n", "4", "--any", "4"),
        *("--meta_file", str(bundle / "configs" / "metadata.json"), *config_argument(bundle)),
    )


def test_metadata_say_the_size_of_the_output(bundle):
    """MONAI's verify_net_in_out does not look at it: a size of ``f*n`` is the input's times the network's scale."""
    data = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    network = tiny_network(bundle)
    (given,), (made,) = data["inputs"].values(), data["outputs"].values()
    shape = (5, 4, 3)[: len(given["spatial_shape"])]
    with torch.no_grad():
        output = network(torch.zeros(1, given["num_channels"], *shape))
    for size, wanted, side in zip(shape, made["spatial_shape"], output.shape[2:], strict=True):
        assert eval(str(wanted), {"__builtins__": {}}, {"n": size}) == side
    for channels, tensor in ((given["num_channels"], given), (made["num_channels"], made)):
        assert set(tensor["channel_def"]) == {str(channel) for channel in range(channels)}


def test_version_is_in_the_changelog(bundle):
    meta = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert meta["version"] in meta["changelog"]


# ---- the weights that are shipped


def tiny_network(bundle: Path, seed: int = 0) -> torch.nn.Module:
    parser = parser_of(bundle, "inference")
    parser.update(those_known(parser, TINY_NETWORK))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = parser.get_parsed_content("network_def").eval()
        for parameter in network.parameters():  # untrained residual branches are all but zero
            torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize("config", ["inference", "train"])
def test_shipped_weights_fit_the_network(bundle, config):
    path = bundle / "models" / "model.pt"
    assert path.stat().st_size <= 20 * MEGABYTE
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state.values())
    parser_of(bundle, config).get_parsed_content("network_def").load_state_dict(state, strict=True)


# ---- training, resuming, evaluating


def scan(seed: int, shape: tuple[int, ...] = (24, 24, 24)) -> np.ndarray:
    """A textured ball on zero."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    rng = np.random.default_rng(seed)
    waves = sum(np.sin(rng.uniform(4, 9) * axis + rng.uniform(0, 6)) for axis in axes)
    return (np.where(sum(a**2 for a in axes) < 0.8, 500 + 100 * waves, 0)).astype(np.float32)


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


def test_evaluation_writes_a_row_per_case(bundle, trained, tmp_path):
    settings = {
        **trained["settings"],
        "weights": str(trained["folder"] / "runs" / "model.pt"),
        "output_dir": str(tmp_path / "eval"),
    }
    workflow = workflow_of(bundle, "train", "evaluate", **settings)
    workflow.run()
    with open(tmp_path / "eval" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    splits = workflow.parser.get_parsed_content("splits")
    assert [row["case"] for row in rows] == [*(Path(f).name.split(".")[0] for f in splits["test"]), "mean"]
    for row in rows:
        assert 0 < float(row["psnr_sr"]) < 100 and -1 <= float(row["ssim_sr"]) <= 1
        assert float(row["consistency_max"]) <= 1e-4


def test_training_without_images_is_one_line_and_status_2(bundle, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    with pytest.raises(SystemExit) as caught:
        workflow_of(bundle, "train", dataset_dir=str(tmp_path / "data"), ckpt_dir=str(tmp_path / "runs")).run()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert caught.value.code == 2 and len(errors) == 1 and str(tmp_path / "data") in errors[0]


# ---- inference


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
def test_a_training_image_that_does_not_serve_is_one_line_and_status_2(bundle, tmp_path, capsys, spoil, said):
    grid = Grid((24, 24, 24), np.eye(4))
    for index, name in enumerate(SUBJECTS):
        write_volume(tmp_path / "data" / f"{name}_T1w.nii.gz", scan(index), grid)
    known = those_known(parser_of(bundle, "train"), TINY_TRAINING)
    split = {"train": [SUBJECTS[0]], "val": [SUBJECTS[1]]}
    settings = {**known, "dataset_dir": str(tmp_path / "data"), "ckpt_dir": str(tmp_path / "runs"), "split": split}
    spoil(tmp_path / "data" / f"{SUBJECTS[0]}_T1w.nii.gz")
    with pytest.raises(SystemExit) as caught:
        workflow_of(bundle, "train", **settings).run()
    assert caught.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and said in lines[0]


@pytest.fixture(scope="module")
def tiny_weights(bundle, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(tiny_network(bundle).state_dict(), path)
    return path


def inference_of(bundle: Path, weights: Path, **settings: Any) -> ConfigWorkflow:
    known = those_known(parser_of(bundle, "inference"), {**TINY_NETWORK, "progress": False})
    return workflow_of(bundle, "inference", kind="inference", **{**known, "checkpoint": str(weights), **settings})


def test_inference_is_consistent_and_on_the_right_grid(bundle, tiny_weights, tmp_path):
    affine = np.array([[0, -1.5, 0, 4], [-1.0, 0, 0.1, 5], [0, 0.1, 2.0, -6], [0, 0, 0, 1]])
    write_volume(tmp_path / "lr" / "scan.nii.gz", scan(5, (6, 7, 5)), Grid((6, 7, 5), affine))
    inference_of(bundle, tiny_weights, input=str(tmp_path / "lr"), output_dir=str(tmp_path / "sr")).run()
    (written,) = (tmp_path / "sr").iterdir()
    assert written.name == "scan_sr.nii.gz"
    lr, sr = read_volume(tmp_path / "lr" / "scan.nii.gz"), read_volume(written)
    assert sr.grid.axcodes == lr.grid.axcodes and math.prod(sr.shape) > math.prod(lr.shape)
    assert corner_error_mm(lr.grid, sr.grid) < 1e-4
    np.testing.assert_allclose(sr.grid.affine, lr.grid.resized(sr.shape).affine, atol=1e-5)
    acquisition = SeparableAcquisition.from_profile(sr.shape, lr.shape)
    again = acquisition.forward(torch.from_numpy(sr.data)[None, None])[0, 0].numpy()
    assert np.abs(again - lr.data).max() <= 1e-4 * np.ptp(lr.data)
    untouched = sr.data - np.kron(lr.data, np.ones([a // b for a, b in zip(sr.shape, lr.shape, strict=True)]))
    assert np.abs(untouched).max() > 1e-3 * np.ptp(lr.data), "the network must have had its say"


def test_monai_finds_all_it_needs_for_inference(bundle, tiny_weights, tmp_path):
    write_volume(tmp_path / "lr.nii", scan(1, (4, 5, 4)), Grid((4, 5, 4), np.eye(4)))
    workflow = inference_of(bundle, tiny_weights, input=str(tmp_path / "lr.nii"), output_dir=str(tmp_path / "sr"))
    assert workflow.check_properties() == []


def test_one_bad_scan_does_not_hold_up_the_others(bundle, tiny_weights, tmp_path, capsys):
    for name in ("a", "c"):
        write_volume(tmp_path / "lr" / f"{name}.nii.gz", scan(1, (4, 5, 4)), Grid((4, 5, 4), np.eye(4)))
    (tmp_path / "lr" / "b.nii.gz").write_bytes(b"no volume")
    workflow = inference_of(bundle, tiny_weights, input=str(tmp_path / "lr"), output_dir=str(tmp_path / "sr"))
    with pytest.raises(SystemExit) as caught:
        workflow.run()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert caught.value.code == 2 and len(errors) == 1 and "b.nii.gz" in errors[0]
    assert sorted(path.name for path in (tmp_path / "sr").iterdir()) == ["a_sr.nii.gz", "c_sr.nii.gz"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"input": "no/such/folder"}, "no/such/folder"),
        ({"checkpoint": "no/such/model.pt"}, "no/such/model.pt: no such weights"),
        ({"consistency": "maybe"}, "consistency 'maybe'"),
    ],
    ids=["input", "weights", "consistency"],
)
def test_bad_settings_are_one_line_and_status_2(bundle, tiny_weights, settings, message, tmp_path, capsys):
    write_volume(tmp_path / "lr.nii", scan(1, (4, 5, 4)), Grid((4, 5, 4), np.eye(4)))
    paths = {"input": str(tmp_path / "lr.nii"), "output_dir": str(tmp_path / "sr")}
    with pytest.raises(SystemExit) as caught:
        inference_of(bundle, tiny_weights, **{**paths, **settings}).run()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert caught.value.code == 2 and len(errors) == 1 and message in errors[0]
    assert not list((tmp_path / "sr").glob("*")), "nothing is written"


# ---- export


def config_argument(bundle: Path) -> list[str]:
    return ["--config_file", str(bundle / "configs" / "inference.json")]


def exported(bundle: Path, tiny_weights: Path) -> tuple[torch.nn.Module, list[str]]:
    """The network to export, and the arguments that say which: the shipped one where there is one."""
    shipped = bundle / "models" / "model.pt"
    if shipped.is_file():
        network, weights, overrides = parser_of(bundle, "inference").get_parsed_content("network_def"), shipped, {}
    else:
        network, weights = tiny_network(bundle), tiny_weights
        overrides = those_known(parser_of(bundle, "inference"), TINY_NETWORK)
    network.load_state_dict(torch.load(weights, weights_only=True))
    arguments = [item for key, value in overrides.items() for item in (f"--{key}", str(value))]
    arguments += ["--net_id", "network_def", "--ckpt_file", str(weights), *config_argument(bundle)]
    return network.eval(), [*arguments, "--meta_file", str(bundle / "configs" / "metadata.json")]


@torch.no_grad()
def test_torchscript_export_gives_the_same(bundle, tiny_weights, tmp_path, monkeypatch):
    network, arguments = exported(bundle, tiny_weights)
    path = tmp_path / "model.ts"
    monai_bundle(monkeypatch, "ckpt_export", "--filepath", str(path), *arguments)
    loaded = torch.jit.load(path)
    for shape in ((4, 5, 3), (6, 4, 4)):
        image = torch.rand(1, 1, *shape)
        torch.testing.assert_close(loaded(image), network(image), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_onnx_export_gives_the_same_at_any_size(bundle, tiny_weights, tmp_path, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, arguments = exported(bundle, tiny_weights)
    path = tmp_path / "model.onnx"
    axes = {2: "x", 3: "y", 4: "z"}
    converter = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": {"image": axes}}
    monai_bundle(
        monkeypatch,
        "onnx_export",
        *("--filepath", str(path), "--use_trace", "True", "--input_shape", "[1,1,6,5,4]"),
        *("--converter_kwargs", str(converter), *arguments),
    )
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in ((6, 5, 4), (4, 5, 7)):
        image = torch.rand(1, 1, *shape)
        (output,) = session.run(["pred"], {"image": image.numpy()})
        np.testing.assert_allclose(output, network(image).numpy(), rtol=1e-4, atol=1e-5)
