"""A whole study from pictures to tables: figures by hand, degenerate answers, files and the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medsr_monai.bundle.commands import cli
from medsr_monai.system.errors import InputError
from medsr_reader_study import analyse_study, analysis_text, create_study, write_analysis
from medsr_reader_study.agreement import intraclass_correlation, weighted_kappa
from tests.apps.reader_study.small_run import answer, write_run

Rate = Callable[[str, str, str], int]


def answered(run: Path, *rates: Rate, **options: object) -> tuple[Path, list[Path]]:
    study = create_study(run, readers=len(rates), **options).folder
    return study, [answer(study, reader, rate) for reader, rate in enumerate(rates, 1)]


def row_of(rows: list[dict], **wanted: object) -> dict:
    (row,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return row


def rating_table(seed: int) -> Rate:
    """Ratings that depend on case, method and question only, with some chance in them."""
    drawn: dict[tuple[str, str, str], int] = {}
    rng = np.random.default_rng(seed)

    def rate(question: str, case: str, method: str) -> int:
        level = {"cubic": 2, "sr": 3, "sr@1": 4, "hr": 5}[method]
        key = (question, case, method)
        return drawn.setdefault(key, int(np.clip(level + rng.integers(-1, 2), 1, 5)))

    return rate


def test_figures_are_those_by_hand(run):
    rates = [rating_table(seed) for seed in (1, 2, 3)]
    study, files = answered(run, *rates)
    analysis = analyse_study(study, files)
    cases = [case["case"] for case in json.loads((study / "key.json").read_text())["cases"]]
    q = "image_quality"
    mean = {m: np.mean([[rate(q, c, m) for rate in rates] for c in cases], axis=1) for m in ("cubic", "sr@1")}
    row = row_of(analysis["methods"], question=q, method="sr@1")
    assert row["mean"] == pytest.approx(mean["sr@1"].mean()) and row["low"] <= row["mean"] <= row["high"]
    assert row["difference"] == pytest.approx((mean["sr@1"] - mean["cubic"]).mean())
    assert row["p"] == pytest.approx(2 / 2**5) and "cannot be below" in row["note"]
    assert row["p_holm"] >= row["p"]
    table = np.array([[rate(q, c, m) for rate in rates] for c in cases for m in ("cubic", "sr", "sr@1", "hr")])
    single, of_mean = intraclass_correlation(table)
    assert row_of(analysis["agreement"], question=q, statistic="icc_2_1")["value"] == pytest.approx(single.value)
    assert row_of(analysis["agreement"], question=q, statistic="icc_2_k")["high"] == pytest.approx(of_mean.high)
    kappas = [weighted_kappa(table[:, a], table[:, b]).value for a, b in ((0, 1), (0, 2), (1, 2))]
    found = row_of(analysis["agreement"], question=q, statistic="weighted_kappa")
    assert found["value"] == pytest.approx(np.mean(kappas)) and found["n_items"] == 20
    again = row_of(analysis["repeatability"], question=q, reader=2)
    assert again["n_repeats"] == 2 and again["same"] == 1 and "too few" in again["note"]


def test_repeats_do_not_count_in_the_means(run):
    study, files = answered(run, rating_table(1), rating_table(2), repeats=0.5)
    before = analyse_study(study, files)["methods"]
    key = json.loads((study / "key.json").read_text())
    content = json.loads(files[0].read_text())
    again = {item["item"] for item in key["readers"][0]["items"] if item["repeat_of"]}
    for entry in content["answers"]:
        if entry["item"] in again:
            entry["image_quality"] = 1
    files[0].write_text(json.dumps(content))
    after = analyse_study(study, files)
    assert after["methods"] == before
    assert row_of(after["repeatability"], question="image_quality", reader=1)["same"] < 1
    assert row_of(after["repeatability"], question="diagnostic_usefulness", reader=1)["same"] == 1


def test_several_cases_of_a_subject_are_averaged_first(tmp_path):
    run = write_run(tmp_path / "run", cases=3)
    table = json.loads((run / "cases.json").read_text())
    for row in table["rows"]:
        row["subject"] = "one" if row["case"] != "sub-03_T1w<b>" else "two"
    (run / "cases.json").write_text(json.dumps(table))
    study, files = answered(run, lambda q, case, method: 1 if case == "sub-03_T1w<b>" else 4)
    analysis = analyse_study(study, files)
    assert analysis["n_subjects"] == 2
    assert {row["mean"] for row in analysis["methods"]} == {2.5}
    assert any("3 cases of 2 subjects" in line for line in analysis["statements"])


def all_figures(value: object) -> list[float]:
    if isinstance(value, dict | list):
        return [f for part in (value.values() if isinstance(value, dict) else value) for f in all_figures(part)]
    return [value] if isinstance(value, float) else []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("rates", "cases", "words"),
    [
        ((lambda *_: 3, lambda *_: 3), 5, ("all ratings are 3", "all differences are zero", "all rate 3")),
        ((rating_table(1),), 5, ("one reader",)),
        ((rating_table(1), rating_table(2)), 1, ("one subject: no interval", "one case: no interval")),
        ((lambda *_: 1, lambda *_: 5), 5, ("no variation between items", "all differences are zero")),
    ],
)
def test_degenerate_answers_are_named_and_never_nan(tmp_path, rates, cases, words):
    study, files = answered(write_run(tmp_path / "run", cases), *rates)
    analysis = analyse_study(study, files)
    assert np.isfinite(all_figures(analysis)).all()
    written = write_analysis(analysis, tmp_path / "analysis.json")
    text = "".join(file.read_text() for file in written)
    assert all(word in text for word in words) and "nan" not in text.lower().replace("nan_", "")
    assert "nan" not in analysis_text(analysis).lower()


def test_absent_readers_and_another_reference(run):
    study, files = answered(run, *[rating_table(seed) for seed in (1, 2, 3)])
    analysis = analyse_study(study, [files[2], files[0]], reference="sr")
    assert analysis["readers"] == [1, 3] and "no answers of reader 2" in analysis["statements"]
    assert [r["method"] for r in analysis["methods"] if r["difference"] is None] == ["sr", "sr"]
    with pytest.raises(InputError, match="--reference edsr: was not read; there are cubic, sr, sr@1, hr"):
        analyse_study(study, files, reference="edsr")


def test_files_hold_what_was_found(run, tmp_path):
    study, files = answered(run, rating_table(1), rating_table(2))
    content = json.loads(files[0].read_text())
    content["answers"][0]["note"] = "ghosting, left"
    files[0].write_text(json.dumps(content))
    analysis = analyse_study(study, files)
    written = write_analysis(analysis, tmp_path / "found.json")
    assert json.loads(written[0].read_text()) == json.loads(json.dumps(analysis))
    tables = {}
    for file in written[1:]:
        lines = file.read_text().splitlines()
        assert lines[0].startswith("# ")
        tables[file.stem] = list(csv.DictReader(line for line in lines if not line.startswith("# ")))
    assert [float(row["mean"]) for row in tables["found_methods"]] == [row["mean"] for row in analysis["methods"]]
    assert len(tables["found_ratings"]) == 44
    assert [row["note"] for row in tables["found_ratings"] if row["note"]] == ["ghosting, left"]
    with pytest.raises(InputError, match=r"ends in \.json"):
        write_analysis(analysis, tmp_path / "found.csv")


def medsr(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["medsr", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_creates_and_analyses(run, tmp_path, monkeypatch, capsys):
    study = tmp_path / "study"
    options = ("--readers", 2, "--out", study, "--methods", "cubic,sr@1", "--layout", "side-by-side", "--seed", 4)
    assert medsr(monkeypatch, "reader-study", "create", run, *options, "--blind_hr", False, "--repeats", 0) == 0
    said = capsys.readouterr().out
    assert "reader_2.html" in said and "keep it from the readers" in said and "10 items a reader" in said
    files = [answer(study, reader, rating_table(reader)) for reader in (1, 2)]
    assert medsr(monkeypatch, "reader-study", "analyse", study, *files) == 0
    said = capsys.readouterr().out
    assert "5 cases of 5 subjects, 2 readers, 20 ratings" in said and "ICC(2,1)" in said
    assert (study / "analysis.json").is_file() and (study / "analysis_methods.csv").is_file()
    assert (
        medsr(monkeypatch, "reader-study", "analyse", study / "key.json", files[0], "--out", tmp_path / "a.json") == 0
    )
    assert (tmp_path / "a_agreement.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create",), "run"),
        (("create", "nowhere"), "nowhere/views: no pictures"),
        (("create", "nowhere", "--reader", 3), "reader"),
        (("create", "nowhere", "--readers", "many"), "--readers many"),
        (("analyse", "nowhere"), "nowhere"),
        (("judge",), "judge"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert medsr(monkeypatch, "reader-study", *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and words in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("reader-study", "create", "--help"), "--blind_hr"), (("reader-study", "--help"), "analyse")],
)
def test_help_is_that_of_the_part(monkeypatch, capsys, arguments, words):
    assert medsr(monkeypatch, *arguments) == 0
    said = capsys.readouterr()
    assert words in said.out + said.err
