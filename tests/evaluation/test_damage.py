"""What is damaged, edited or left over in an evaluation's folder."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medsr_monai.metrics.catalogue import catalogue
from medsr_monai.system.errors import InputError
from tests.evaluation.samples import AFFINE, NAMES, evaluation, scan, write_scans
from tests.evaluation.test_evaluation import read_json, rows_of, without_costs


@pytest.mark.parametrize(
    "damage",
    [
        {"figures": None},
        {"figures": {"psnr": 3.0}},
        {"figures": dict.fromkeys(catalogue(), "x")},
        {"reasons": None},
        {"power_db": 3},
        {"seconds": "1"},
        {"subject": 4},
    ],
    ids=str,
)
def test_a_result_that_was_edited_is_computed_again(tmp_path, damage):
    settings = {"methods": ["cubic"], "pictures": 0}
    first = evaluation(tmp_path, **settings)
    first.run()
    right = rows_of(first.folder)
    path = first.files.path(NAMES[0], "box_noise0", "cubic")
    path.write_text(json.dumps(read_json(path) | damage))
    evaluation(tmp_path, **settings).run()
    assert without_costs(rows_of(first.folder)) == without_costs(right)


@pytest.mark.parametrize("meta", ["x", "[]", "{}", '{"images": 3}'])
def test_pictures_that_are_damaged_are_drawn_again(tmp_path, meta):
    run = evaluation(tmp_path, methods=["cubic"], pictures=1)
    run.run()
    path = run.files.views_path(NAMES[0], "box_noise0")
    np.savez(path, **{**np.load(path), "meta": np.array(meta)})
    evaluation(tmp_path, methods=["cubic"], pictures=1).run()
    assert json.loads(str(np.load(path)["meta"]))["images"] == ["lr", "hr", "cubic"]


def test_a_folder_can_be_evaluated_with_fewer_conditions_and_then_reported(tmp_path):
    from medsr_monai.evaluation.report import write_report

    evaluation(tmp_path, methods=["cubic", "linear"], degradations=["box", "gaussian"]).run()
    fewer = evaluation(tmp_path, methods=["cubic", "linear"], degradations=["gaussian"])
    fewer.run()
    assert {path.name for path in (fewer.folder / "views").iterdir()} == {f"{n}.gaussian_noise0.npz" for n in NAMES}
    assert write_report(fewer.folder).is_file()


def test_a_case_that_fails_is_named_and_the_others_results_stay(tmp_path):
    write_scans(tmp_path / "hr")
    broken = scan(0)
    broken[12, 12, 12] = np.nan
    nib.save(nib.Nifti1Image(broken, AFFINE), tmp_path / "hr" / "sub-03_T1w.nii.gz")
    failing = evaluation(tmp_path, methods=["cubic"], cases=sorted((tmp_path / "hr").iterdir()))
    with pytest.raises(InputError, match=r"sub-03_T1w\.nii\.gz"):
        failing.run()
    assert read_json(failing.folder / "run.json")["status"] == "failed"
    assert {path.parts[-3] for path in (failing.folder / "results").rglob("*.json")} == set(NAMES)
