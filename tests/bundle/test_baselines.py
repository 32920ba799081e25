"""Baselines are described once, in their overlays: the evaluation takes them from there, with the shipped weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from medsr_monai.bundle.baselines import overlay_network, trained_baselines
from medsr_monai.bundle.workflows import overlay_file
from medsr_monai.system.errors import InputError

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "brain_mri_super_resolution"


@pytest.fixture(scope="module")
def models() -> dict:
    files = [
        *(BUNDLE / "configs" / f"{name}.json" for name in ("train", "evaluate")),
        overlay_file("evaluate_baselines"),
    ]
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser["bundle_root"] = str(BUNDLE)
    return parser.get_parsed_content("models")


def test_every_shipped_baseline_is_evaluated_with_its_weights(models):
    assert sorted(models) == sorted(path.parent.name for path in (BUNDLE / "models/baselines").glob("*/model.pt"))
    for name, entry in models.items():
        assert (
            entry["consistency"] == "exact"
            and Path(entry["weights"]) == BUNDLE / "models/baselines" / name / "model.pt"
        )
        entry["network"].load_state_dict(torch.load(entry["weights"], weights_only=True))


@pytest.mark.parametrize(
    "name", sorted(path.stem.removeprefix("network_") for path in ROOT.glob("configs/network_*.json"))
)
@pytest.mark.parametrize("scale", [(1, 1, 4), (2, 2)], ids=["through-plane", "2d"])
def test_an_overlay_suits_every_scale(name, scale):
    network = overlay_network(name, scale).eval()
    size = (6, 5, 4)[: len(scale)]
    with torch.no_grad():
        assert network(torch.zeros(1, 1, *size)).shape[2:] == tuple(n * f for n, f in zip(size, scale, strict=True))


def test_one_that_there_is_not_is_one_line():
    with pytest.raises(InputError, match="network_nobody: no such file, nor an overlay"):
        trained_baselines("weights", ["nobody"], (2, 2, 2))
