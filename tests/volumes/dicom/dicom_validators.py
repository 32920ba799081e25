"""David Clunie's validators, where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def assert_valid(folder: Path, *beside: Path) -> None:
    """No file of a folder has an error, nor have all together with the files beside them."""
    if shutil.which("dciodvfy") is None:
        return
    files = sorted(folder.glob("*.dcm"))
    assert files
    for file in (files[0], files[-1]):
        run = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True, check=False)
        errors = [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]
        assert not errors, "\n".join(errors)
    run = subprocess.run(["dcentvfy", *files, *beside], capture_output=True, text=True, check=False)
    assert "Error" not in run.stdout + run.stderr, run.stderr
