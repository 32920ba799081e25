"""Small studies and a server on them; all of it only where MONAI Label is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.apps.label.server_process import LabelServer

OBLIQUE = np.array([[0.0, 0.0, 2.0, -7.0], [-1.5, 0.1, 0.0, 11.0], [0.1, 1.2, 0.0, -3.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.fixture(autouse=True, scope="session")
def needs_monai_label() -> None:
    if find_spec("monailabel") is None:
        pytest.skip("MONAI Label is not installed here: make test-label has an environment for it")


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as users have one: good images, bad ones, and names that programs trip over."""
    folder = tmp_path_factory.mktemp("studies")
    rng = np.random.default_rng(3)
    scan = nib.Nifti1Image(rng.random((12, 11, 10), dtype=np.float32) * 900, OBLIQUE)
    for name in ("scan.nii.gz", "$odd [1] näme.nii", "twice.nii", "twice.nii.gz", "hash#tag.nii.gz"):
        nib.save(scan, folder / name)
    (folder / "cut.nii.gz").write_bytes((folder / "scan.nii.gz").read_bytes()[:2000])
    (folder / "empty.nii.gz").touch()
    (folder / "text.nii").write_text("not an image")
    (folder / "notes.txt").write_text("not an image either")
    (folder / "subfolder").mkdir()
    return folder


@pytest.fixture(scope="session")
def server(studies: Path, tmp_path_factory: pytest.TempPathFactory, needs_monai_label: None) -> Iterator[LabelServer]:
    started = LabelServer(studies, tmp_path_factory.mktemp("server"))
    yield started
    started.stop()
