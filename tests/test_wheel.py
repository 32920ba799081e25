"""The wheel holds the bundles: an installation away from the checkout lists them and upscales."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from medsr_monai.geometry import Grid
from medsr_monai.volumes import read_volume, write_volume

ROOT = Path(__file__).parent.parent
BUNDLES = sorted(path.parent for path in (ROOT / "bundles").glob("*/bundle.json"))
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built by the build backend itself, without a network."""
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    (path,) = builder.build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(path)


def files_in(folder: str) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]


def test_it_holds_bundles_overlays_and_programs_and_nothing_that_runs_leave_behind(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for bundle in BUNDLES:
        needed = [bundle / name for name in ("bundle.json", "LICENSE", "docs/README.md", "models/model.pt")]
        needed += (bundle / "configs").iterdir()
        assert {f"medsr_monai/{file.relative_to(ROOT)}" for file in needed if file.exists()} <= names
    assert {f"medsr_monai/{file}" for folder in ("bundles/shared", "configs") for file in files_in(folder)} <= names
    assert {"medsr_pacs/commands.py", "medsr_reader_study/form.html", "medsr_label/client.py"} <= names
    assert not [name for name in names if "/runs/" in name or "/baselines/" in name or name.startswith("tests")]
    assert wheel.stat().st_size < 20 * MEGABYTE


@pytest.mark.slow
def test_installed_it_lists_the_bundles_and_upscales(wheel, tmp_path):
    """Unpacked as pip unpacks it, and run where there is no checkout."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    here = tmp_path / "here"
    write_volume(
        here / "lr.nii.gz", np.random.default_rng(0).random((8, 7, 6)).astype(np.float32), Grid((8, 7, 6), np.eye(4))
    )

    def medsr(*arguments: str) -> str:
        command = [sys.executable, "-m", "medsr_monai.bundle.commands.cli", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "MEDSR_BUNDLES": ""}
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = medsr("bundles")
    for bundle in BUNDLES:
        assert str(tmp_path / "installed" / "medsr_monai" / "bundles" / bundle.name) in listed
    medsr("upscale", "lr.nii.gz", "sr.nii.gz", "--progress", "False")
    assert read_volume(here / "sr.nii.gz").shape == (16, 14, 12)
    medsr("bundle", "create", "mine", "--scale", "1,1,2")
    assert (here / "mine" / "configs" / "train.json").is_file()
