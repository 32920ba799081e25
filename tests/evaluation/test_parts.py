"""The grammar of methods, the cases, the conditions, and what is refused of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsr_monai.evaluation import find_cases, parse_method
from medsr_monai.evaluation.cases import parse_conditions
from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import write_volume
from tests.evaluation.samples import AFFINE, evaluation, scan, tiny_network, write_scans

MODELS = {"srcnn": {"consistency": "none"}, "vdsr": {"consistency": 0.1}}


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("cubic", ("cubic", "cubic", None, "none")),
        ("bicubic+exact", ("cubic+exact", "cubic", None, "exact")),
        ("sr", ("sr", "sr", 0.25, "exact")),
        ("sr+none", ("sr+none", "sr", 0.25, "none")),
        ("sr@0.5+none", ("sr@0.5+none", "sr", 0.5, "none")),
        ("srcnn", ("srcnn", "srcnn", None, "none")),
        ("vdsr", ("vdsr", "vdsr", None, 0.1)),
        ("vdsr+exact", ("vdsr+exact", "vdsr", None, "exact")),
    ],
)
def test_methods_are_read(text, method):
    found = parse_method(text, MODELS, perception=0.25)
    assert (found.name, found.family, found.perception, found.consistency) == method
    assert found.kind == ("classic" if found.family == "cubic" else "network")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spline", "method 'spline': known are nearest, linear, cubic, .*, sr, srcnn, vdsr"),
        ("cubic@0.5", "only sr has a dial"),
        ("sr@2", "from 0 to 1"),
        ("sr@x", "from 0 to 1"),
        ("sr+maybe", "known are"),
        ("", "known are"),
    ],
)
def test_methods_that_are_none_are_refused(text, said):
    with pytest.raises(InputError, match=said):
        parse_method(text, MODELS)


def test_scale_1_with_an_exact_projection_is_refused(tmp_path):
    with pytest.raises(InputError, match="consistency 'exact': a network of scale 1 restores"):
        evaluation(tmp_path, scale=(1, 1, 1))
    evaluation(tmp_path, scale=(1, 1, 1), consistency="none")


def test_cases_have_names_subjects_and_masks(tmp_path):
    for name in ("sub-01", "sub-02"):
        write_volume(tmp_path / name / "anat" / "T1w.nii.gz", scan(0), Grid((24, 24, 24), AFFINE))
    files = sorted(tmp_path.rglob("*.nii.gz"))
    assert [(c.name, c.subject) for c in find_cases(files)] == [("sub-01_T1w", "sub-01"), ("sub-02_T1w", "sub-02")]
    named = find_cases(files, {"T1w.nii.gz": "S1", "sub-02/anat/T1w.nii.gz": None})
    assert [c.subject for c in named] == ["S1", "sub-02"]
    with pytest.raises(InputError, match="several are named sub-01_T1w"):
        find_cases([files[0], files[0]])
    assert find_cases(files[:1], masks=files[1])[0].mask == files[1], "one file for one case"
    with pytest.raises(InputError, match="no case to evaluate"):
        find_cases([])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"methods": ["cubic", "foo"]}, "method 'foo': known are"),
        ({"methods": []}, "methods '\\[\\]'"),
        ({"methods": "cubic"}, "methods 'cubic'"),
        ({"baseline": "linear"}, "baseline 'linear': is not among the methods cubic, sr"),
        ({"degradations": ["blur"]}, "degradation 'blur': choose among box, gaussian, kspace"),
        ({"noises": [-1]}, "noise '-1'"),
        ({"noises": []}, "noises"),
        ({"assumed_profile": "blur"}, "assumed_profile 'blur'"),
        ({"consistency": "maybe"}, "consistency 'maybe'"),
        ({"workers": 2, "device": "cuda"}, "workers 2: one process"),
        ({"models": {"x": {"network": "y"}}}, "models 'x': needs a 'network'"),
        ({"weights": "missing.pt"}, "missing.pt: no such weights"),
        ({"niqe_model": "missing.npz"}, "missing.npz: no such file"),
        ({"masks": "missing"}, "missing: no such file or folder"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_settings_that_cannot_serve_are_one_line_before_anything_is_written(tmp_path, settings, said):
    with pytest.raises(InputError, match=said) as caught:
        evaluation(tmp_path, **settings).run()
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda hr: hr[:, :, :10], "axis 2 has 10 voxels, but SSIM needs 11"),
        (lambda hr: hr * np.nan, "not finite|NaN"),
        (lambda hr: hr * 0, "constant image"),
        (lambda hr: hr * 0 + 7, "constant image"),
        (lambda hr: -1 - hr, "not positive"),
    ],
    ids=["small", "nan", "zero", "constant", "negative"],
)
def test_an_image_that_does_not_serve_is_one_line_that_names_it(tmp_path, spoil, said):
    import nibabel as nib

    files = write_scans(tmp_path / "hr")
    nib.save(nib.Nifti1Image(spoil(scan(0)), AFFINE), files[1])
    with pytest.raises(InputError, match=said) as caught:
        evaluation(tmp_path, cases=files, methods=["cubic"]).run()
    assert str(files[1]) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "affine", "said"),
    [
        (np.ones((24, 24, 20)), AFFINE, r"mask of \(24, 24, 20\) voxels"),
        (np.ones((24, 24, 24)), AFFINE + np.array([0, 0, 0, 9.0]) * np.eye(4)[:, :1], "9.0 mm away"),
        (np.zeros((24, 24, 24)), AFFINE, "constant image.*; a mask has voxels of 0"),
        (np.eye(24)[None].repeat(24, 0) - 1, AFFINE, "empty mask"),
    ],
    ids=["shape", "place", "zero", "not above zero"],
)
def test_a_mask_that_does_not_fit_is_one_line(tmp_path, mask, affine, said):
    files = write_scans(tmp_path / "hr")
    for file in files:
        write_volume(tmp_path / "masks" / file.name, mask.astype(np.float32), Grid(mask.shape, affine))
    with pytest.raises(InputError, match=said):
        evaluation(tmp_path, cases=files, methods=["cubic"], masks=tmp_path / "masks").run()
    (tmp_path / "masks" / files[1].name).unlink()
    with pytest.raises(InputError, match=f"no mask for {files[1].name}"):
        evaluation(tmp_path, cases=files, methods=["cubic"], masks=tmp_path / "masks")


def test_a_network_of_another_scale_or_gone_wrong_is_named(tmp_path):
    from medsr_monai.networks import RRDBNet

    other = RRDBNet(3, features=4, growth=4, scale=(1, 2, 2))
    torch.save(other.state_dict(), tmp_path / "other.pt")
    models = {"other": {"network": other, "weights": tmp_path / "other.pt"}}
    with pytest.raises(InputError, match=r"method 'other': gives .* is the network for another scale"):
        evaluation(tmp_path, methods=["other"], models=models).run()
    network = tiny_network()
    state = {name: value * torch.nan for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(InputError, match="method 'sr': gives NaN"):
        evaluation(tmp_path, methods=["sr"], weights=tmp_path / "nan.pt").run()


@pytest.mark.parametrize("name", ["hr", "lr", "sr", "cubic", "bicubic", "a.b", "a/b", "sr@1"])
def test_a_learned_baseline_cannot_have_the_name_of_something_else(tmp_path, name):
    models = {name: {"network": tiny_network(), "weights": "model.pt"}}
    with pytest.raises(InputError, match=f"^models '{name}': choose a name of letters"):
        evaluation(tmp_path, models=models)


@pytest.mark.parametrize("name", ["..", "a\nb"])
def test_a_case_must_have_a_name_that_a_folder_and_a_table_can_have(tmp_path, name):
    with pytest.raises(InputError, match="no name for a case; rename the file") as caught:
        find_cases([tmp_path / f"{name}.nii.gz"])
    assert "\n" not in str(caught.value)


def test_two_noises_of_one_name_would_overwrite_each_other():
    with pytest.raises(InputError, match=r"several would be called box_noise0\.02;"):
        parse_conditions(["box"], [0.02, 0.020000001])
