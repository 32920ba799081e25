"""`medsr bundle create` and `build`: what they write, what they say, and one line for what cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medsr_monai.bundle.commands import cli
from medsr_monai.bundle.upscaling import upscale
from medsr_monai.bundle.workflows import bundle_root, find_bundles
from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import write_volume

LIKE = "brain_mri_super_resolution"


@pytest.fixture
def medsr(monkeypatch, tmp_path, capsys):
    """The command in an empty folder: its status, what it printed and its error lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDSR_BUNDLES", raising=False)

    def run(*arguments: object) -> tuple[int, str, list[str]]:
        monkeypatch.setattr("sys.argv", ["medsr", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err.splitlines()

    return run


def test_it_says_where_it_wrote_and_what_comes_next(medsr, tmp_path):
    status, said, _ = medsr("bundle", "create", "mine", "--scale", "1,1,4", "--modality", "CT", "--anatomy", "chest")
    assert status == 0
    assert str(tmp_path / "mine") in said and "configs/train.json" in said and f"--bundle {tmp_path / 'mine'}" in said
    own = json.loads((tmp_path / "mine/bundle.json").read_text())
    assert (own["scale"], own["modality"], own["augmentation"]["intensity"]) == ([1, 1, 4], "CT", [])
    assert "shipped_weights" not in own["configs"] and "chest CT by 1x1x4" in own["task"]


def test_own_bundles_lie_where_the_environment_says(medsr, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSR_BUNDLES", str(tmp_path / "own"))
    assert medsr("bundle", "create", "mine")[1].rstrip().endswith("--bundle mine")
    assert find_bundles()["mine"] == tmp_path / "own" / "mine"
    status, said, _ = medsr("bundles")
    (line,) = (line for line in said.splitlines() if line.startswith("mine  0.1.0"))
    assert status == 0 and line.endswith("(not trained yet: no weights)")


def test_it_works_wherever_it_is_moved_to(medsr, tmp_path):
    medsr("bundle", "create", "mine")
    (tmp_path / "mine").rename(tmp_path / "moved")
    assert not [path for path in (tmp_path / "moved/configs").iterdir() if "shared" in path.read_text()]
    assert medsr("bundle", "build", tmp_path / "moved", "--check")[0] == 0


def test_upscaling_without_weights_says_how_to_train(medsr, tmp_path):
    medsr("bundle", "create", "mine")
    (tmp_path / "lr.nii.gz").touch()
    status, _, (error,) = medsr("upscale", "lr.nii.gz", "sr.nii.gz", "--bundle", "mine")
    assert status == 2 and "bundle 'mine': has no weights yet" in error and "monai.bundle run" in error
    with pytest.raises(InputError, match="bundle 'mine': has no weights yet"):
        upscale("lr.nii.gz", bundle="mine")


def test_build_writes_what_changed_and_check_names_it(medsr, tmp_path):
    medsr("bundle", "create", "mine")
    own = json.loads((tmp_path / "mine/bundle.json").read_text())
    own["configs"] = {"train": {"max_epochs": 7, "train#trainer#clip_norm": 0.5}, "shipped_weights": {"subjects": None}}
    (tmp_path / "mine/bundle.json").write_text(json.dumps(own))
    status, _, (error,) = medsr("bundle", "build", "mine", "--check")
    assert status == 2 and "train.json: is not what bundle.json gives" in error
    assert medsr("bundle", "build", "mine")[:2] == (0, f"mine  2 files written in {Path('mine/configs')}\n")
    train = json.loads((tmp_path / "mine/configs/train.json").read_text())
    assert train["max_epochs"] == 7 and train["train"]["trainer"]["clip_norm"] == 0.5
    assert json.loads((tmp_path / "mine/configs/shipped_weights.json").read_text()) == {"subjects": None}
    assert medsr("bundle", "build", "--check")[0] == 0, "the committed bundles are as built"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a/b"], "name 'a/b': must be letters"),
        ([LIKE], f"name '{LIKE}': taken by"),
        (["taken"], "taken: is there already"),
        (["mine", "--like", "nobody"], "bundle 'nobody': not found"),
        (["mine", "--scale", "2"], "scale '2': must be a whole number for each of 3 axes"),
        (["mine", "--scale", "1,1,0"], "scale '1,1,0'"),
        (["mine", "--scale", "1,1,2.5"], "scale '1,1,2.5'"),
        (["mine", "--scale", "1,1,1"], "scale '1,1,1': enlarges nothing"),
        (["mine", "--scale", "1,1,9"], "scale '1,1,9': a factor may be 8 at most"),
        (["mine", "--modality", "XX"], "modality 'XX': choose one of"),
        (["mine", "--out", "file"], "file/mine: cannot write"),
        (["mine", "--shape", "3"], "unknown option --shape"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(medsr, tmp_path, arguments, said):
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    status, _, errors = medsr("bundle", "create", *arguments)
    assert status == 2 and len(errors) == 1 and said in errors[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda own: own.pop("scale"), "'scale' is missing"),
        (lambda own: own.update(scale=[2]), "scale '2'"),
        (lambda own: own["augmentation"].pop("flips"), "'flips' is missing"),
        (lambda own: own["network"].pop("_target_"), "'_target_' is missing"),
        (lambda own: own.pop("data_source"), "'data_source' is missing"),
        (lambda own: own.update(configs={"train": {"nothing#inner": 1}}), "there is no 'nothing#inner'"),
        (lambda own: own.update(axis="slice"), "'axis': nothing reads it"),
        (lambda own: own.update(intensity=None), "'intensity' is missing"),
    ],
    ids=["no-scale", "one-axis", "no-flips", "no-network", "no-source", "no-place", "misspelt", "no-intensity"],
)
def test_a_damaged_description_is_one_line(medsr, tmp_path, spoil, said):
    medsr("bundle", "create", "mine")
    own = json.loads((tmp_path / "mine/bundle.json").read_text())
    spoil(own)
    (tmp_path / "mine/bundle.json").write_text(json.dumps(own))
    status, _, errors = medsr("bundle", "build", "mine")
    assert status == 2 and len(errors) == 1 and said in errors[0] and "bundle.json" in errors[0]


@pytest.mark.parametrize("name", ["inference", "metadata"])
@pytest.mark.parametrize("content", [None, "{", "[]"], ids=["missing", "broken", "a-list"])
def test_a_damaged_configuration_is_one_line(medsr, tmp_path, name, content):
    write_volume("scan.nii", np.random.default_rng(0).random((6, 6, 6), np.float32), Grid((6, 6, 6), np.eye(4)))
    medsr("bundle", "create", "mine")
    shutil.copy(bundle_root(LIKE) / "models/model.pt", "mine/models/model.pt")
    file = tmp_path / f"mine/configs/{name}.json"
    if content is None and name == "inference":
        file.unlink()
    else:
        file.write_text(content or "")
    status, _, errors = medsr("upscale", "scan.nii", "sr.nii", "--bundle", "mine")
    assert status == 2 and len(errors) == 1 and f"configs/{name}.json" in errors[0]
    assert not (tmp_path / "sr.nii").exists()
