"""Every bundle in turn, with tiny weights, and without a trace of the workflow before."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_contract import BUNDLES, tiny_network
from monai.utils import set_determinism


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
