"""Every bundle in turn, with tiny weights, and without a trace of the workflow before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bundle_contract import BUNDLES, tiny_network


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda path: path.name)
def bundle(request) -> Path:
    return request.param


@pytest.fixture(autouse=True)
def _every_test_runs_a_workflow(workflow_leaves_no_trace) -> None:
    pass


@pytest.fixture(scope="module")
def tiny_weights(bundle, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(tiny_network(bundle).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def tiny_weights_gan(bundle, tiny_weights) -> Path:
    """What an adversarial training might have made of them."""
    path = tiny_weights.with_name("model_gan.pt")
    torch.save(tiny_network(bundle, seed=1).state_dict(), path)
    return path
