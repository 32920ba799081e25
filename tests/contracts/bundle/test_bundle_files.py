"""Every bundle: its files, its configurations' keys and targets, its metadata, its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_contract import (
    BUNDLES,
    CREATED,
    MEGABYTE,
    SCHEMA,
    config_argument,
    monai_bundle,
    parser_of,
    resolves,
    targets,
    tiny_network,
)

from medsr_monai.bundle.generation import generated
from medsr_monai.bundle.workflows import has_weights

CREATED_BUNDLES = tuple(CREATED)
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


def test_there_are_bundles():
    assert BUNDLES


def test_required_files_are_there(bundle):
    configs = ("metadata", "inference", "train", "train_gan")
    texts = ("LICENSE", "bundle.json", "docs/README.md", "docs/data_license.txt", "configs/logging.conf")
    for name in (*texts, *(f"configs/{config}.json" for config in configs)):
        assert (bundle / name).stat().st_size > 0, name
    assert not list(bundle.rglob("*.py")), "a bundle is data: Python lies in the package"


def test_configurations_are_those_that_its_own_facts_give(bundle):
    texts = generated(bundle)
    assert sorted(texts) == sorted(path.name for path in (bundle / "configs").iterdir())
    for name, text in texts.items():
        assert (bundle / "configs" / name).read_text() == text, f"run `medsr bundle build {bundle.name}`"


def test_every_json_parses(bundle):
    for path in sorted((bundle / "configs").glob("*.json")):
        assert isinstance(json.loads(path.read_text()), dict), path


@pytest.mark.parametrize("config, keys", [("inference", INFERENCE_KEYS), ("train", TRAIN_KEYS)])
def test_keys_that_the_tools_look_up_exist(bundle, config, keys):
    parser = parser_of(bundle, config)
    assert [key for key in keys if key not in parser] == []


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
    assert not resolves("medsr_monai.RRDBNetwork") and not resolves("NoSuchTransformd")
    assert resolves("medsr_monai.RRDBNet") and resolves("SpatialPadd") and resolves("torch.nn.L1Loss")


def resolved_network(bundle: Path, config: str) -> dict[str, Any]:
    parser = parser_of(bundle, config)
    definition = dict(parser["network_def"])
    return {
        key: parser[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        for key, value in definition.items()
    }


def test_training_and_inference_have_the_same_network(bundle):
    assert resolved_network(bundle, "train") == resolved_network(bundle, "inference")


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


@pytest.mark.parametrize("config", ["inference", "train"])
def test_shipped_weights_fit_the_network(bundle, config):
    path = bundle / "models" / "model.pt"
    if not has_weights(bundle):
        assert "Not trained yet" in (bundle / "docs" / "README.md").read_text()
        return
    assert path.stat().st_size <= 20 * MEGABYTE
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state.values())
    parser_of(bundle, config).get_parsed_content("network_def").load_state_dict(state, strict=True)
