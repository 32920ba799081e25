"""The page of an evaluation: what it holds, what it hides, how large it is, and which folders it refuses."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsr_monai.bundle.commands import cli
from medsr_monai.evaluation.record.tables import CaseTable
from medsr_monai.evaluation.report import page, write_report
from medsr_monai.system.errors import InputError
from medsr_reader_study import create_study
from tests.evaluation.report.runs import METHODS, Layout, write_run, write_summary

SECTIONS = ("summary", "compare", "plane", "cases", "panels", "spectra", "consistency", "matrix", "manifest")
EVIL = "<script>alert(1)</script>&\"'"


class Elements(HTMLParser):
    """Tags with their attributes, and the text of scripts apart from all other text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self._stack = "", "", [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self._stack[1:] and self._stack.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._stack[-1] in ("script", "style"):
            self.scripts += data
        else:
            self.text += data + " "

    def ids(self) -> list[str | None]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def parsed(path: Path) -> Elements:
    elements = Elements()
    elements.feed(path.read_text(encoding="utf-8"))
    return elements


def change(path: Path, edit: Any) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("run")))


def test_the_page_has_every_section_with_content(whole: Path) -> None:
    assert whole.name == "report.html"
    found = parsed(whole)
    ids = found.ids()
    assert set(SECTIONS) <= set(ids) and len(ids) == len(set(ids))
    links = {str(a["href"]) for a in found.all("a")}
    assert links == {f"#{name}" for name in SECTIONS}
    charts = [svg for svg in found.all("svg") if svg.get("class") == "chart"]
    # Two conditions with a plane, a box for each of seven measures, and two spectra.
    assert len(charts) == 2 * (1 + 7 + 2)
    assert all(svg["aria-label"] for svg in charts)
    for text in ("PSNR (dB) – higher is better", "Frequency (share of Nyquist)", "Power relative to HR (dB)"):
        assert text in found.text
    assert "Research use only" in found.text and "2 × 2 × 2" in found.text and "95 % bootstrap" in found.text
    assert "share of HR's 99.5th percentile" in found.text
    for name in METHODS:
        assert name in found.text


def test_every_chart_has_labels_on_its_axes(whole: Path) -> None:
    charts = re.findall(r'<svg[^>]*class="chart".*?</svg>', whole.read_text(), flags=re.DOTALL)
    assert charts
    for chart in charts:
        labels = re.findall(r'class="label"[^>]*>([^<]+)<', chart)
        is_box = "of every case" in chart
        assert len(labels) == (1 if is_box else 2), labels
        assert len(re.findall(r'class="tick"', chart)) >= 2


def test_every_case_is_a_point_in_every_box(whole: Path) -> None:
    assert len(re.findall(r"<title>s1_a, sr: [^<]* dB</title>", whole.read_text())) == 2  # PSNR, two conditions
    boxes = re.findall(r"<svg[^>]*of every case.*?</svg>", whole.read_text(), flags=re.DOTALL)
    assert len(boxes) == 14
    for box in boxes:
        assert len(re.findall(r"<use [^>]*><title>[^<]+</title>", box)) == 4 * len(METHODS)


def test_nothing_is_loaded_from_elsewhere(whole: Path) -> None:
    found = parsed(whole)
    for _, attributes in found.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", whole.read_text())
    (policy,) = [m["content"] for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policy


def test_the_best_of_each_column_is_marked_and_the_invention_said(whole: Path) -> None:
    html = whole.read_text()
    table = html[html.index('<table class="sortable">') : html.index("</table>")]
    rows = {re.findall(r"</i>([^<]+)<small>", row)[0]: row for row in table.split("<tr")[2:]}
    cells = {name: re.findall(r"<td.*?</td>", row, flags=re.DOTALL) for name, row in rows.items()}
    assert ["best" in row[0] for row in cells.values()] == [name == "sr" for name in cells]  # PSNR
    assert ["best" in row[3] for row in cells.values()] == [name == "sr@1" for name in cells]  # perceptual distance
    assert "baseline" in cells["cubic"][0] and 'aria-label="better"' in cells["sr"][0]
    assert 'aria-label="worse"' in cells["linear"][0]
    assert "Invented detail" in html and "<b>sr@0.5</b>, <b>sr@1</b>" in html


def test_no_note_of_invention_without_the_dial(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    change(run / "cases.json", lambda c: [m.update(perception=None) for m in c["methods"].values()])
    assert "Invented detail" not in write_report(run).read_text()


def test_the_dials_settings_are_joined_in_order(whole: Path) -> None:
    from medsr_monai.evaluation.report.charts import dial_curves

    assert dial_curves(CaseTable.read(whole.parent).methods) == [["sr", "sr@0.5", "sr@1"]]
    curve = re.search(r'class="dial"><path d="([^"]+)"', whole.read_text())
    assert curve and len(re.findall("[ML]", curve.group(1))) == 3


def test_names_from_files_are_harmless(tmp_path: Path) -> None:
    run = write_run(tmp_path, Layout(cases=(EVIL, "b"), subjects=(EVIL, "b")))

    def spoil(content: dict[str, Any]) -> None:
        content["conventions"] = [EVIL]
        content["methods"]["linear"]["label"] = EVIL
        content["measures"]["psnr"] = {
            "name": "psnr",
            "label": EVIL,
            "unit": EVIL,
            "better": "higher",
            "definition": EVIL,
        }

    change(run / "cases.json", spoil)
    change(run / "run.json", lambda c: c.update({EVIL: EVIL, "bundle": EVIL}))
    change(run / "summary.json", lambda c: c["sets"].append(_set(EVIL)))
    html = write_report(run).read_text()
    assert "<script>alert" not in html and 'alert(1)</script>&"' not in html
    found = parsed(run / "report.html")
    assert len(found.all("script")) == 2 and found.text.count("<script>alert(1)</script>") > 10
    stacks = json.loads(re.findall(r'id="stacks">(.*?)</script>', html, flags=re.DOTALL)[0])
    assert stacks[0]["case"] == EVIL


def _set(features: str) -> dict[str, Any]:
    place = {"condition": "box_noise0", "method": "sr"}
    return {**place, "measure": "frechet_distance", "value": 12.5, "n": 96, "features": features}


def test_distances_between_sets_say_their_features(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    change(run / "summary.json", lambda c: c["sets"].append(_set("untrained features")))
    text = parsed(write_report(run)).text
    assert "Fréchet distance" in text and "untrained features (96 samples)" in text and "12.5" in text


def test_paths_and_patients_stay_out_of_the_manifest(whole: Path) -> None:
    html = whole.read_text()
    assert "Doe_Jane" not in html and "a path, not shown" in html
    assert "3b1f" * 16 in html and "2.13.0" in html and "toy_bundle 0.3.0" in html


def test_stacks_are_the_pictures_within_the_stated_loss(whole: Path) -> None:
    import base64
    import io

    from PIL import Image

    html = whole.read_text()
    stacks = json.loads(re.findall(r'id="stacks">(.*?)</script>', html, flags=re.DOTALL)[0])
    stated = re.search(r"differ from the run's by\s+([0-9.]+) grey levels .*?at most (\d+)\)", html, flags=re.DOTALL)
    assert stated
    view = np.load(sorted((whole.parent / "views").glob("*.npz"))[0])
    most = 0.0
    for image in stacks[0]["images"]:
        stack = view[f"stack/{image['name']}"]
        data = base64.b64decode(image["atlas"].partition(",")[2])
        tiles = np.asarray(Image.open(io.BytesIO(data)).convert("L")).astype(int)
        rows, columns = stack.shape[1:]
        for index, grey in enumerate(stack):
            top, left = index // image["across"] * rows, index % image["across"] * columns
            most = max(most, np.abs(tiles[top : top + rows, left : left + columns] - grey).max())
        assert image["width_mm"] == pytest.approx(24.0) and image["height_mm"] == pytest.approx(24.0)
    assert 0 < most <= int(stated.group(2))


def test_a_page_that_would_be_too_large_gets_smaller_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, Layout(cases=tuple("abcd"), subjects=tuple("abcd"), shape=(48, 48, 12), pictures=4))
    monkeypatch.setattr(page, "LEAST_PICTURE_BYTES", 0)
    full = write_report(run, tmp_path / "full.html").read_text()
    pictures = sum(map(len, re.findall(r"data:image/[^\"]+", full)))
    limit = len(full.encode()) - pictures // 4
    monkeypatch.setattr(page, "LARGEST_PAGE_BYTES", limit)
    small = write_report(run, tmp_path / "small.html")
    assert small.stat().st_size <= limit
    quality = re.compile(r"of quality (\d+)")
    assert int(quality.findall(small.read_text())[0]) < int(quality.findall(full)[0])
    monkeypatch.setattr(page, "LARGEST_PAGE_BYTES", 1000)
    with pytest.raises(InputError, match="4 cases of pictures do not fit"):
        write_report(run, tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_a_run_with_little_in_it(tmp_path: Path) -> None:
    """One subject, one condition, no perceptual distances, pictures or spectra, and a PSNR that is infinite."""
    layout = Layout(
        cases=("only",),
        subjects=("only",),
        conditions=(("box", 0.0),),
        without=("perceptual_distance", "gradient_distribution", "consistency_max", "consistency_rms"),
        pictures=0,
    )
    run = write_run(tmp_path, layout)
    (run / "spectra.json").unlink()

    def identical(content: dict[str, Any]) -> None:
        content["rows"][0]["psnr"] = None
        content["rows"][1]["ssim"] = float("nan")
        content["rows"][2]["bias"] = float("-inf")

    change(run / "cases.json", identical)
    write_summary(run, CaseTable.read(run))
    found = parsed(write_report(run))
    assert not {"compare", "panels", "matrix", "condition"} & set(found.ids())
    assert "no PSNR together with a perceptual distance" in found.text
    assert "no spectra" in found.text and "no residuals" in found.text
    assert "nan" not in found.text.lower().replace("means", "") and "[" not in found.text


def test_pictures_of_single_slices_are_shown_in_one_plane(tmp_path: Path) -> None:
    run = write_run(tmp_path, Layout(shape=(24, 20, 1), pictures=1))
    html = write_report(run).read_text()
    assert html.count("axial; frame") == 1 and "sagittal" not in html and "slice" in html
    study = create_study(run, readers=1)
    assert (study.n_items, study.n_slices) == (len(METHODS) + 1 + 1, 1)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("running", "has not ended, or was killed"),
        ("interrupted", "was interrupted"),
        ("failed", "ended with an error"),
    ],
)
def test_an_unfinished_run_says_so(tmp_path: Path, status: str, words: str) -> None:
    run = write_run(tmp_path)
    change(run / "run.json", lambda c: c.update(status=status))
    page = write_report(run).read_text()
    assert "Unfinished run" in page and f"The evaluation {words}:" in page


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda r: (r / "cases.json").unlink(), r"cases.json: cannot read: No such file .*; the folder must be one"),
        (lambda r: (r / "run.json").unlink(), r"run.json: cannot read: No such file"),
        (lambda r: (r / "cases.json").write_text("{"), r"cases.json: cannot read: Expecting"),
        (lambda r: (r / "cases.json").write_bytes(b"\xff\xfe\x00"), r"cases.json: cannot read: 'utf-8' codec"),
        (lambda r: (r / "summary.json").write_text("[]"), r"summary.json: is not a JSON object; the folder"),
        (lambda r: change(r / "cases.json", lambda c: c.pop("format")), r"not the result of an evaluation"),
        (lambda r: change(r / "cases.json", lambda c: c.update(version=2)), r"version 2 of the format"),
        (lambda r: change(r / "cases.json", lambda c: c.update(rows=[])), r"holds no case"),
        (lambda r: change(r / "cases.json", lambda c: c.update(rows=3)), r"needs the list 'rows'"),
        (lambda r: change(r / "cases.json", lambda c: c["rows"][4].update(psnr="x")), r"rows\[4\] has 'psnr' = 'x'"),
        (lambda r: change(r / "cases.json", lambda c: c["rows"][0].update(method="x")), r"names the method 'x'"),
        (lambda r: change(r / "cases.json", lambda c: c.update(baseline="x")), r"names the baseline 'x'"),
        (lambda r: change(r / "cases.json", lambda c: c["measures"]["psnr"].update(better="up")), r"better = 'up'"),
        (lambda r: change(r / "summary.json", lambda c: c["rows"][0].update(measure="x")), r"measure 'x'"),
        (lambda r: change(r / "summary.json", lambda c: c["rows"][0].pop("n_cases")), r"needs the number 'n_cases'"),
        (lambda r: change(r / "spectra.json", lambda c: c["rows"][0].update(power_db=[1])), r"1 values of power"),
        (lambda r: next((r / "views").iterdir()).write_bytes(b"PK\x03\x04"), r"damaged picture file"),
        (lambda r: next((r / "views").iterdir()).write_text("no pictures"), r"damaged picture file"),
        (lambda r: np.savez(next((r / "views").iterdir()), meta=np.array("{}")), r"damaged picture file \(no images\)"),
    ],
)  # fmt: skip
def test_damaged_folders_are_one_line(tmp_path: Path, damage: Any, words: str) -> None:
    run = write_run(tmp_path / "run", Layout(slices=2))
    damage(run)
    before = sorted(run.iterdir())
    with pytest.raises(InputError, match=words) as caught:
        write_report(run)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert sorted(run.iterdir()) == before


def test_pictures_that_do_not_fit_their_table_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, Layout(slices=2, pictures=1))
    (path,) = (run / "views").iterdir()
    arrays = dict(np.load(path))
    meta = json.loads(str(arrays["meta"]))
    for edit, words in (
        ({"case": "somebody else"}, "pictures of 'somebody else'"),
        ({"spacing_mm": [1, 0, 1]}, r"spacing_mm \[1\.0, 0\.0, 1\.0\]: need three positive numbers"),
        ({"images": ["hr"]}, "no image 'lr'"),
        ({"stack_positions_mm": [1]}, "stack of 'lr'"),
        ({"planes": ["oblique"]}, "'oblique'"),
    ):
        np.savez(path, **{**arrays, "meta": np.array(json.dumps({**meta, **edit}))})
        with pytest.raises(InputError, match=words):
            write_report(run)


def test_the_command_writes_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def medsr(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["medsr", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    run = write_run(tmp_path / "7", Layout(slices=2, pictures=1))
    assert medsr("report", str(run), "--out", str(tmp_path / "new" / "page.html")) == 0
    assert "page.html" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["page.html"]
    for arguments, said in (
        ([str(tmp_path / "nowhere")], "no such folder"),
        ([str(run), "--out", str(tmp_path)], "is a folder"),
        ([str(run), "--out", str(run / "run.json" / "x.html")], "cannot write"),
        ([str(run), "--colour", "blue"], "unknown option --colour"),
    ):
        assert medsr("report", *arguments) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
