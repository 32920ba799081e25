"""A whole evaluation on small scans: what it writes, that it agrees with others, goes on, and refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose
from scipy import ndimage
from skimage.metrics import structural_similarity

from medsr_monai.evaluation.cases import load_case
from medsr_monai.evaluation.plan import Case, Condition
from medsr_monai.evaluation.scoring import Scorer
from medsr_monai.geometry import Grid
from medsr_monai.metrics import NIQEModel
from medsr_monai.metrics.catalogue import catalogue
from medsr_monai.networks import ConvolutionalFeatures, OnSlices
from medsr_monai.system.errors import InputError
from medsr_monai.transforms import ReorientToNetworkd
from medsr_monai.volumes import LoadVolumed, write_volume
from tests.evaluation.samples import AFFINE, NAMES, evaluation, scan, tiny_network, write_scans

# Of the middle of S2, by the table that went before: PSNR and SSIM of cubic, then of sr.
EXPECTED = (25.23599, 0.81051, 26.93123, 0.86049)
METHODS = ["nearest", "cubic", "sr", "sr@0.5+none"]


def read_json(path: Path):
    return json.loads(path.read_text())


def rows_of(folder: Path) -> list[dict]:
    return read_json(folder / "cases.json")["rows"]


def without_costs(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in ("seconds", "peak_mib")} for row in rows]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One evaluation of two cases, four methods, and four conditions."""
    root = tmp_path_factory.mktemp("done")
    text = evaluation(root, methods=METHODS, degradations=["box", "gaussian"], noises=[0.0, 0.02], pictures=1).run()
    return root, root / "run", text


def test_cases_are_in_order_with_every_measure(done):
    _, run, _ = done
    content = read_json(run / "cases.json")
    assert content["format"] == "medsr-evaluation" and content["version"] == 1
    assert content["baseline"] == "cubic" and content["scale"] == [2, 2, 2]
    assert list(content["measures"]) == list(catalogue())
    assert all(set(m) == {"name", "label", "unit", "better", "definition"} for m in content["measures"].values())
    assert content["methods"]["sr@0.5+none"] == {
        "name": "sr@0.5+none",
        "label": "bundle's network, perception 0.5, not projected",
        "kind": "network",
        "perception": 0.5,
        "consistency": "none",
    }
    conditions = ["box_noise0", "box_noise0.02", "gaussian_noise0", "gaussian_noise0.02"]
    assert [c["name"] for c in content["conditions"]] == conditions
    expected = [(case, condition, method) for case in NAMES for condition in conditions for method in METHODS]
    assert [(r["case"], r["condition"], r["method"]) for r in content["rows"]] == expected
    assert {r["subject"] for r in content["rows"]} == {"sub-01", "sub-02"}
    for row in content["rows"]:
        assert row["psnr"] > 5 and row["seconds"] >= 0 and row["vif"] is None
        exact = row["method"] == "sr" or (row["method"], row["degradation"]) == ("nearest", "box")
        assert (row["consistency_max"] < 1e-5) == exact, "repeated voxels have their own mean"
    assert any("vif: empty for 32 result(s)" in line and "41" in line for line in content["conventions"])
    assert any(line.startswith("ms_ssim: 2 scales") for line in content["conventions"])


def test_the_table_has_a_header_and_the_same_numbers(done):
    _, run, _ = done
    lines = (run / "cases.csv").read_text().splitlines()
    header = [line for line in lines if line.startswith("# ")]
    assert any("P99.5" in line for line in header) and any("psnr: PSNR (dB)" in line for line in header)
    table = list(csv.DictReader(lines[len(header) :]))
    for ours, theirs in zip(table, rows_of(run), strict=True):
        assert ours == {key: "" if value is None else str(value) for key, value in theirs.items()}


def test_the_summary_pairs_subjects_and_says_what_it_did(done):
    _, run, text = done
    summary = read_json(run / "summary.json")
    assert (summary["baseline"], summary["confidence"], summary["resamples"]) == ("cubic", 0.95, 200)
    rows = {(r["condition"], r["method"], r["measure"]): r for r in summary["rows"]}
    found = rows_of(run)
    for method in METHODS:
        row = rows["box_noise0", method, "psnr"]
        values = [r["psnr"] for r in found if (r["condition"], r["method"]) == ("box_noise0", method)]
        cubic = [r["psnr"] for r in found if (r["condition"], r["method"]) == ("box_noise0", "cubic")]
        assert (row["n_cases"], row["n_subjects"]) == (2, 2)
        assert row["mean"] == pytest.approx(np.mean(values)) and row["low"] <= row["mean"] <= row["high"]
        assert row["difference"] == pytest.approx(np.mean(np.subtract(values, cubic)), abs=1e-9)
        assert f"| {method} | {row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" in text
    assert rows["box_noise0", "cubic", "vif"]["mean"] is None
    assert summary["sets"] == [] and "means over 2 subjects with 95 % bootstrap intervals" in text
    assert (run / "summary.md").read_text() == text


def test_spectra_and_pictures_are_there_for_a_report(done):
    _, run, _ = done
    spectra = read_json(run / "spectra.json")
    assert len(spectra["frequency"]) == 16 and 0 < spectra["frequency"][0] < spectra["frequency"][-1] < 1
    images = [r["image"] for r in spectra["rows"] if r["case"] == NAMES[0] and r["condition"] == "box_noise0"]
    assert images == ["hr", *METHODS] and all(len(r["power_db"]) == 16 for r in spectra["rows"])
    assert [p.name for p in (run / "views").iterdir()] == [f"{NAMES[0]}.box_noise0.npz"]
    with np.load(run / "views" / f"{NAMES[0]}.box_noise0.npz", allow_pickle=False) as views:
        meta = json.loads(str(views["meta"]))
        assert meta["images"] == ["lr", "hr", *METHODS] and meta["planes"] == ["sagittal", "coronal", "axial"]
        assert np.allclose(meta["spacing_mm"], [1, 1.1, 0.9]) and np.allclose(meta["lr_spacing_mm"], [2, 2.2, 1.8])
        assert views["plane/hr/axial"].shape == (24, 24) and views["plane/lr/axial"].shape == (12, 12)
        assert views["plane/hr/axial"].dtype == np.float16 and 0.9 < views["plane/hr/axial"].max() < 1.5
        count = len(meta["stack_positions_mm"])
        assert views["stack/sr"].shape == (count, 24, 24) and views["stack/lr"].shape == (count, 12, 12)
        assert views["stack/hr"].dtype == np.uint8 and views["stack/hr"].max() == 255 and count <= 32


def test_the_pictures_are_the_right_way_up(tmp_path):
    """What lies at the patient's right, front and top is seen on the left, on top, and in the last slices."""
    hr = scan(0)
    hr[-6:-2, -6:-2, -6:-2] = 5000
    write_volume(tmp_path / "a_1.nii.gz", hr, Grid(hr.shape, np.eye(4)))
    run = evaluation(tmp_path, cases=[tmp_path / "a_1.nii.gz"], methods=["cubic"])
    run.run()
    with np.load(run.folder / "views" / "a_1.box_noise0.npz") as views:
        stack = views["stack/hr"]
        slices, rows, columns = np.nonzero(stack == stack.max())
        meta = json.loads(str(views["meta"]))
    assert columns.max() < 6 and rows.max() < 6 and min(np.array(meta["stack_positions_mm"])[slices]) > 5


def test_the_manifest_says_how_it_was_made(done):
    root, run, _ = done
    manifest = read_json(run / "run.json")
    assert manifest["status"] == "completed" and manifest["seconds"] > 0 and manifest["device"].startswith("cpu")
    assert manifest["settings"]["workers"] == 1 and manifest["settings"]["scale"] == [2, 2, 2]
    assert set(manifest["settings"]["weights"]["sr@0.5+none"]) == {"model.pt", "gan.pt"}
    assert manifest["settings"]["cases"][1] == {"case": NAMES[1], "subject": "sub-02", "file": f"{NAMES[1]}.nii.gz"}
    assert str(root) not in (run / "run.json").read_text() and str(root) not in (run / "cases.json").read_text()


def test_psnr_and_ssim_agree_with_a_script_that_shares_no_code(done):
    root, run, _ = done
    for case in NAMES:
        hr = nib.load(root / "hr" / f"{case}.nii.gz").get_fdata()
        lr = hr.reshape(12, 2, 12, 2, 12, 2).mean(axis=(1, 3, 5))
        images = {
            "nearest": lr.repeat(2, 0).repeat(2, 1).repeat(2, 2),
            "cubic": ndimage.zoom(lr, 2, order=3, mode="nearest", grid_mode=True),
        }
        unit = np.percentile(hr[hr != 0], 99.5)
        mask = ndimage.binary_dilation(hr / unit > 0.05, iterations=2) & (hr != 0)
        for method, sr in images.items():
            psnr = -10 * np.log10(np.mean((sr - hr)[mask] ** 2) / unit**2)
            _, ssim_map = structural_similarity(
                *(sr / unit, hr / unit),
                data_range=1,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                full=True,
            )
            inner = (slice(5, -5),) * 3
            row = next(
                r for r in rows_of(run) if (r["case"], r["condition"], r["method"]) == (case, "box_noise0", method)
            )
            assert row["psnr"] == pytest.approx(psnr, abs=0.001)
            assert row["ssim"] == pytest.approx(ssim_map[inner][mask[inner]].mean(), abs=1e-5)


def test_results_that_are_there_are_not_computed_again(tmp_path, monkeypatch):
    first = evaluation(tmp_path, methods=["cubic"])
    first.run()
    made = []
    score = Scorer._result

    def counted(self, files, task, loaded, measured, method):
        made.append((task.case.name, method.name, method.name in task.digests))
        return score(self, files, task, loaded, measured, method)

    monkeypatch.setattr(Scorer, "_result", counted)
    evaluation(tmp_path, methods=["cubic"]).run()
    assert made == []
    before = rows_of(first.folder)
    evaluation(tmp_path, methods=["cubic", "linear"]).run()
    # pictures are of all methods, so that cubic is upscaled once more, but not measured
    assert made == [(name, *rest) for name in NAMES for rest in (("cubic", False), ("linear", True))]
    assert [row for row in rows_of(first.folder) if row["method"] == "cubic"] == before

    made.clear()
    first.files.path(NAMES[1], "box_noise0", "cubic").write_text("{")
    write_volume(tmp_path / "hr" / f"{NAMES[0]}.nii.gz", scan(7), Grid((24, 24, 24), AFFINE))
    evaluation(tmp_path, methods=["cubic"], pictures=0, cases=sorted((tmp_path / "hr").iterdir())).run()
    assert made == [(NAMES[0], "cubic", True), (NAMES[1], "cubic", True)], "another image, and a damaged result"


def test_a_run_that_was_stopped_between_results_goes_on(tmp_path, monkeypatch):
    settings = {"methods": ["cubic", "linear", "sr"], "pictures": 1}
    whole = evaluation(tmp_path, "whole", **settings)
    whole.run()
    stopped, calls = evaluation(tmp_path, "stopped", **settings), []
    score = Scorer._result

    def stop(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(self, *arguments)

    monkeypatch.setattr(Scorer, "_result", stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert read_json(stopped.folder / "run.json")["status"] == "interrupted"
    results = stopped.folder / "results"
    assert sorted(p.name for p in results.rglob("*") if p.is_file()) == ["cubic.json", "linear.json"]
    assert not (stopped.folder / "cases.json").exists()
    evaluation(tmp_path, "stopped", **settings).run()
    assert len(calls) == 3 + 2 + 4, "two of the first case again for its picture, and the four that were missing"
    assert without_costs(rows_of(stopped.folder)) == without_costs(rows_of(whole.folder))
    assert read_json(stopped.folder / "run.json")["status"] == "completed"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seed": 1}, "another 'seed'"),
        ({"assumed_profile": "kspace"}, "another 'assumed_profile'"),
        ({"weights": "gan.pt"}, "another 'weights'"),
        ({"perceptual_features": ConvolutionalFeatures(3, widths=(4,))}, "another 'perceptual_features'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_folder_with_another_evaluation_is_refused_until_told_otherwise(tmp_path, settings, said):
    evaluation(tmp_path, methods=["sr"]).run()
    settings = {key: tmp_path / value if key == "weights" else value for key, value in settings.items()}
    other = evaluation(tmp_path, methods=["sr"], **settings)
    with pytest.raises(InputError, match=f"{said}; choose another output folder, or .* 'resume' False"):
        other.run()
    other = evaluation(tmp_path, methods=["sr"], resume=False, **settings)
    other.run()
    anew = evaluation(tmp_path, "anew", methods=["sr"], **settings)
    anew.run()
    assert without_costs(rows_of(other.folder)) == without_costs(rows_of(anew.folder))


def test_a_damaged_record_is_one_line(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"format": "medsr-evaluation-run", "settings": []}')
    with pytest.raises(InputError, match=r"run\.json: damaged; choose another output folder"):
        evaluation(tmp_path).run()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"status": "completed"}')
    with pytest.raises(InputError, match="holds the record of something else"):
        evaluation(tmp_path).run()


def test_every_case_has_noise_of_its_own_and_always_the_same(tmp_path):
    run = evaluation(tmp_path)
    run.check()

    def noise(name: str, seed: int = 0) -> np.ndarray:
        case = load_case(Case(name, name, run.found[0].file), run.load)
        plan = replace(run.plan, seed=seed)
        clean, noisy = (case.measured(Condition("box", share), plan)[0].lr.numpy() for share in (0.0, 0.02))
        return (noisy - clean)[clean > 300]

    assert np.array_equal(noise("a"), noise("a"))
    for other in (noise("b"), noise("a", 1)):
        assert abs(np.corrcoef(noise("a"), other)[0, 1]) < 0.2


def test_what_a_projection_assumes_can_be_wrong(tmp_path):
    settings = {"methods": ["cubic+exact"], "degradations": ["box", "gaussian"]}
    for name, assumed in (("told", None), ("blind", "box")):
        evaluation(tmp_path, name, assumed_profile=assumed, **settings).run()
    told, blind = ({(r["case"], r["condition"]): r for r in rows_of(tmp_path / name)} for name in ("told", "blind"))
    for case in NAMES:
        assert told[case, "box_noise0"]["psnr"] == blind[case, "box_noise0"]["psnr"]
        assert (
            told[case, "gaussian_noise0"]["consistency_max"] < 1e-4 < blind[case, "gaussian_noise0"]["consistency_max"]
        )


@pytest.mark.parametrize("scale", [(1, 1, 4), (3, 1, 2), (1, 1, 2.5)], ids=str)
def test_any_scale_per_axis_is_evaluated(tmp_path, scale):
    from medsr_monai.evaluation.report import write_report

    load = Compose([LoadVolumed("hr"), ReorientToNetworkd("hr")])
    cases = write_scans(tmp_path / "hr", (24, 24, 40))
    run = evaluation(tmp_path, cases=cases, methods=["cubic", "cubic+exact"], scale=scale, load=load)
    run.run()
    cubic, exact = rows_of(run.folder)[:2]
    assert exact["consistency_max"] < 1e-5 < cubic["consistency_max"] and exact["psnr"] > cubic["psnr"] > 10
    with np.load(run.folder / "views" / f"{NAMES[0]}.box_noise0.npz") as views:
        assert np.allclose(json.loads(str(views["meta"]))["lr_spacing_mm"], np.multiply(scale, (1, 1.1, 0.9)))
    assert write_report(run.folder).is_file()


@pytest.mark.parametrize("axes", ["image", "slice"])
def test_a_sagittal_stack_is_measured_along_its_slices_and_shown_in_the_body_s_planes(tmp_path, axes):
    voxels = scan(0, (24, 20, 16))
    axial = np.diag([1.0, 1.1, 1.2, 1.0])
    files = {"axial": axial, "sagittal": axial[[2, 0, 1, 3]]}  # its third axis, of 1.2 mm, runs from left to right
    figures = {}
    for name, affine in files.items():
        file = tmp_path / f"{name}.nii.gz"
        write_volume(file, voxels, Grid(voxels.shape, affine))
        scale = {"scale": (1, 1, 4), "axes": axes}
        load = Compose([LoadVolumed("hr"), ReorientToNetworkd("hr", **scale)])
        run = evaluation(tmp_path, name, cases=[file], methods=["cubic+exact"], load=load, **scale)
        run.run()
        figures[name] = {k: v for k, v in rows_of(run.folder)[0].items() if k in ("psnr", "ssim", "consistency_max")}
        with np.load(run.folder / "views" / f"{name}.box_noise0.npz") as views:
            meta = json.loads(str(views["meta"]))
        thick = int(np.argmax(np.abs(affine[:3, 2])))
        assert np.argmax(meta["lr_spacing_mm"]) == thick and max(meta["lr_spacing_mm"]) == pytest.approx(4.8)
    assert figures["sagittal"] == pytest.approx(figures["axial"], rel=1e-5)


def test_a_mask_chooses_the_voxels(tmp_path):
    files = write_scans(tmp_path / "hr")
    whole = evaluation(tmp_path, "whole", methods=["cubic"])
    whole.run()
    mask = np.zeros((24, 24, 24), np.float32)
    mask[:, :, 8:14] = 1
    for file in files:
        write_volume(tmp_path / "masks" / file.name, mask, Grid(mask.shape, AFFINE))
    masked = evaluation(tmp_path, "masked", methods=["cubic"], masks=tmp_path / "masks")
    masked.run()
    hr = nib.load(files[0]).get_fdata()
    lr = hr.reshape(12, 2, 12, 2, 12, 2).mean(axis=(1, 3, 5))
    cubic = ndimage.zoom(lr, 2, order=3, mode="nearest", grid_mode=True)
    expected = np.mean((cubic - hr)[mask > 0] ** 2) / np.percentile(hr[hr != 0], 99.5) ** 2
    assert rows_of(masked.folder)[0]["mse"] == pytest.approx(expected, rel=1e-4)
    assert rows_of(whole.folder)[0]["mse"] != pytest.approx(expected, rel=1e-2)


def test_learned_baselines_features_and_niqe(tmp_path):
    files = write_scans(tmp_path / "hr", (40, 40, 40))
    torch.save(tiny_network(3).state_dict(), tmp_path / "other.pt")
    NIQEModel.fit([torch.from_numpy(scan(5, (40, 40, 40)))[None, None]], patch=16).save(tmp_path / "niqe.npz")
    run = evaluation(
        tmp_path,
        cases=files,
        methods=["cubic", "other", "other+exact", "back_projection", "wavelet"],
        models={"other": {"network": tiny_network(4), "weights": tmp_path / "other.pt"}},
        perceptual_features=OnSlices(ConvolutionalFeatures(2, widths=(4, 4)), 6),
        niqe_model=tmp_path / "niqe.npz",
    )
    text = run.run()
    rows = [r for r in rows_of(run.folder) if r["case"] == NAMES[0]]
    assert all(r["perceptual_distance"] > 0 and r["niqe"] > 0 for r in rows)
    by_method = {r["method"]: r for r in rows}
    assert by_method["other+exact"]["consistency_max"] < 1e-5 < by_method["other"]["consistency_max"]
    sets = read_json(run.folder / "summary.json")["sets"]
    assert [s["method"] for s in sets] == list(by_method)
    assert all(s["measure"] == "frechet_distance" and s["value"] > 0 and s["n"] == 36 for s in sets)
    assert "ConvolutionalFeatures on 6 slices along each axis, 8 features" in sets[0]["features"]
    assert "Fréchet" in text and "perceptual distance" in text
    features = run.files.features_path(NAMES[1], "box_noise0", "cubic")
    features.unlink()
    run.run()
    assert features.is_file() and read_json(run.folder / "summary.json")["sets"] == sets
    run.perceptual_features = OnSlices(ConvolutionalFeatures(2, widths=(4, 4), seed=1), 6)
    with pytest.raises(InputError, match="another 'perceptual_features'"):
        run.run()


def test_one_subject_has_no_interval_and_it_is_said(tmp_path):
    names = ("sub-01_a", "sub-01_b")
    run = evaluation(tmp_path, cases=write_scans(tmp_path / "hr", names=names), methods=["cubic", "linear"])
    text = run.run()
    row = read_json(run.folder / "summary.json")["rows"][1]
    assert row["measure"] == "psnr" and (row["n_cases"], row["n_subjects"], row["low"], row["high"]) == (
        2,
        1,
        None,
        None,
    )
    assert "one subject: no intervals" in text
    two = evaluation(tmp_path, "two", methods=["cubic"], subjects={"sub-01_b.nii.gz": "S2"}, cases=run.cases)
    assert "means over 2 subjects" in two.run()


@pytest.mark.slow
def test_two_workers_give_the_numbers_of_one_to_the_last_bit(tmp_path):
    settings = {"methods": ["cubic", "sr"], "noises": [0.0, 0.02]}
    for workers in (1, 2):
        evaluation(tmp_path, f"run{workers}", workers=workers, **settings).run()
    one, two = (rows_of(tmp_path / f"run{workers}") for workers in (1, 2))
    assert without_costs(one) == without_costs(two) and len(one) == 8
    assert read_json(tmp_path / "run2" / "run.json")["settings"]["workers"] == 2


@pytest.mark.data
def test_a_real_brain_has_the_figures_that_are_published(data_dir, tmp_path):
    """The middle of S2, with the weights that are shipped, against figures of an implementation before this one."""
    from medsr_monai.geometry import reorient
    from medsr_monai.networks import RRDBNet
    from medsr_monai.volumes import read_volume

    volume = read_volume(data_dir / "mri" / "adult_3t_T1w.nii.gz")
    grid, orientation = volume.grid.canonical()
    low = [(n - 64) // 2 for n in grid.shape]
    crop = np.ascontiguousarray(reorient(volume.data, orientation)[tuple(slice(n, n + 64) for n in low)])
    write_volume(tmp_path / "S2_crop.nii.gz", crop, Grid(crop.shape, np.diag([*grid.spacing_mm, 1.0])))
    models = Path(__file__).parents[2] / "bundles" / "brain_mri_super_resolution" / "models"
    run = evaluation(
        tmp_path,
        cases=[tmp_path / "S2_crop.nii.gz"],
        network=RRDBNet(3, features=32, growth=16),
        weights=models / "model.pt",
    )
    run.run()
    cubic, sr = rows_of(run.folder)
    assert (cubic["psnr"], cubic["ssim"]) == (
        pytest.approx(EXPECTED[0], abs=0.01),
        pytest.approx(EXPECTED[1], abs=1e-3),
    )
    assert (sr["psnr"], sr["ssim"]) == (pytest.approx(EXPECTED[2], abs=0.01), pytest.approx(EXPECTED[3], abs=1e-3))
    assert sr["consistency_max"] < 1e-5 and sr["vif"] > cubic["vif"]
