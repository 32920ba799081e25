"""Every bundle as a command and as a library: bad input ends `python -m monai.bundle`, and never the interpreter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from bundle_contract import OVERLAYS, config_files, parser_of, refused, run_arguments, workflow_of

INTERRUPT = "$(_ for _ in ()).throw(KeyboardInterrupt)"
ENDS = {
    "inference": (["inference"], {"input": "missing.nii"}, 2, "error: missing.nii: no such file or folder"),
    "interrupted": (["inference"], {"input": INTERRUPT}, 130, "interrupted"),
    "train": (["train"], {"max_epochs": 0}, 2, "error: max_epochs '0'"),
    "train_gan": (["train", "train_gan"], {"dataset_dir": "missing"}, 2, "error: missing: no such file or folder"),
    "evaluate": (["train", "evaluate"], {"cases": "['missing.nii']"}, 2, "error: missing.nii: no such file"),
}
SLOW = {"train_gan", "evaluate"}  # one process of the family is enough for every day


@pytest.mark.parametrize("case", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in ENDS])
def test_the_command_ends_with_one_line_and_its_status(bundle, case, tmp_path):
    names, changed, status, said = ENDS[case]
    folders = {"output_dir": tmp_path / "out"} if "train" not in names else {"ckpt_dir": tmp_path / "runs"}
    command = run_arguments(bundle, config_files(bundle, *names), **folders, **changed)
    done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error:", "interrupted"))]
    assert len(lines) == 1 and lines[0].startswith(said), done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_a_program_that_loads_a_bundle_gets_exceptions(bundle):
    hook = sys.excepthook
    with refused("profile 'foo'"):
        workflow_of(bundle, "inference", kind="inference", profile="foo")
    assert sys.excepthook is hook


def test_every_configuration_reaches_the_package_and_names_nothing_inside(bundle):
    """Importing it is what makes the command end so; its public names stay when its rooms move."""
    for name in ("inference", "train"):
        assert "$import medsr_monai" in parser_of(bundle, name)["imports"]
    for path in [*sorted((bundle / "configs").glob("*.json")), *sorted(OVERLAYS.glob("*.json"))]:
        assert not re.findall(r"medsr_monai\.\w+\.\w+", Path(path).read_text()), path.name
