"""What every test may ask for: real images, a seeded generator, and a machine that stays usable."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.utils import set_determinism


def pytest_configure() -> None:
    # Processes that run beside each other have one core each.
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real images that MEDSR_DATA names."""
    named = os.environ.get("MEDSR_DATA")
    if not named:
        pytest.skip("MEDSR_DATA is not set: it names the folder with real images")
    folder = Path(named).resolve()
    if not folder.is_dir():
        pytest.skip(f"MEDSR_DATA names {named!r}, which is not a folder")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that draws the same numbers in every run."""
    return np.random.default_rng(20240229)


@pytest.fixture
def workflow_leaves_no_trace(monkeypatch) -> Iterator[None]:
    """A workflow seeds the global generators and puts its folder on the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  MONAI seeds the global one
    yield
    set_determinism(None)
    np.random.set_state(state[0])  # noqa: NPY002
    torch.set_rng_state(state[1])
