"""Every bundle in turn, with tiny weights, and without a trace of the workflow before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bundle_contract import BUNDLES, CREATED, tiny_network

from medsr_monai.bundle.creation import create_bundle


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every committed bundle; in the modules that name them, those that a user would create too."""
    if "bundle" in metafunc.fixturenames:
        params = [*BUNDLES, *getattr(metafunc.module, "CREATED_BUNDLES", ())]
        metafunc.parametrize("bundle", params, indirect=True, scope="module", ids=[Path(p).name for p in params])


@pytest.fixture(scope="module")
def bundle(request, tmp_path_factory) -> Path:
    if request.param not in CREATED:
        return request.param
    return create_bundle(request.param, BUNDLES[0].name, **CREATED[request.param], out=tmp_path_factory.mktemp("own"))


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
