"""What the contract over every bundle shares: its settings, and its workflows without another interpreter."""

from __future__ import annotations

import runpy
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ComponentLocator, ConfigParser, ConfigWorkflow
from monai.utils.module import optional_import

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError, find_input_error
from medsr_monai.volumes import write_volume

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "tests" / "schema" / "metadata_schema.json"
OVERLAYS = ROOT / "configs"
BUNDLES = sorted(path.parent.parent for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
# Bundles as `medsr bundle create` makes them: what it is asked for, by name.
CREATED: dict[str, dict[str, Any]] = {
    "thin_ct": {"scale": (1, 1, 4), "modality": "CT", "anatomy": "chest"},
    "pictures": {"scale": (2, 2), "modality": "DX", "anatomy": "chest"},
}
MEGABYTE = 2**20

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


def config_files(bundle: Path, *names: str) -> list[str]:
    return [str(bundle / "configs" / f"{name}.json") for name in names]


def merged_parser(files: Sequence[str]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(list(files))
    return parser


def parser_of(bundle: Path, *names: str) -> ConfigParser:
    return merged_parser(config_files(bundle, *names))


def those_known(parser: ConfigParser, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that this bundle's configuration has."""
    return {key: value for key, value in settings.items() if key in parser}


def workflow_from(bundle: Path, files: Sequence[str], kind: str = "train", **settings: Any) -> ConfigWorkflow:
    """An initialised workflow on the CPU; settings that the configuration does not have are an error."""
    parser = merged_parser(files)
    unknown = sorted(key for key in settings if key not in parser)
    assert not unknown, f"{bundle.name} {[Path(file).stem for file in files]}: no {unknown}"
    workflow = ConfigWorkflow(
        config_file=list(files),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **{"bundle_root": str(bundle), "device": torch.device("cpu"), **settings},
    )
    workflow.initialize()
    return workflow


def workflow_of(bundle: Path, *names: str, kind: str = "train", **settings: Any) -> ConfigWorkflow:
    """The same from the bundle's own configurations."""
    return workflow_from(bundle, config_files(bundle, *names), kind, **settings)


@contextmanager
def refused(*said: str) -> Iterator[None]:
    """Bad input of one line, behind what MONAI wraps it in; the interpreter goes on."""
    with pytest.raises((InputError, RuntimeError)) as caught:
        yield
    error = find_input_error(caught.value)
    assert error is not None and len(str(error).splitlines()) == 1, caught.getrepr()
    assert [part for part in said if part not in str(error)] == [], str(error)


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


def run_arguments(bundle: Path, files: Sequence[str], **settings: Any) -> list[str]:
    """Of ``python -m``: this training on the CPU, as a user types it."""
    given = {"config_file": list(files), "bundle_root": bundle, **settings}
    return ["monai.bundle", "run", *(item for key, value in given.items() for item in (f"--{key}", str(value)))]


def monai_bundle(monkeypatch, *arguments: str) -> None:
    """``python -m monai.bundle ...`` without another interpreter."""
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *arguments])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_module("monai.bundle", run_name="__main__")


def config_argument(bundle: Path) -> list[str]:
    return ["--config_file", str(bundle / "configs" / "inference.json")]


def tiny_network(bundle: Path, seed: int = 0) -> torch.nn.Module:
    parser = parser_of(bundle, "inference")
    parser.update(those_known(parser, TINY_NETWORK))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = parser.get_parsed_content("network_def").eval()
        for parameter in network.parameters():  # untrained residual branches are all but zero
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def scan(seed: int, shape: tuple[int, ...] = (24, 24, 24)) -> np.ndarray:
    """A textured ball on zero."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    rng = np.random.default_rng(seed)
    waves = sum(np.sin(rng.uniform(4, 9) * axis + rng.uniform(0, 6)) for axis in axes)
    return (np.where(sum(a**2 for a in axes) < 0.8, 500 + 100 * waves, 0)).astype(np.float32)


def write_subjects(folder: Path, side: int = 24, count: int = 3) -> Path:
    for index, name in enumerate(SUBJECTS[:count]):
        shape = (side, side, side)
        write_volume(folder / f"{name}_T1w.nii.gz", scan(index, shape), Grid(shape, np.diag([1.0, -1.1, 0.9, 1.0])))
    return folder
