"""Forms: blinded, complete, of their own; the key says what they do not."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from medsr_monai.system.errors import InputError
from medsr_reader_study.creation import create_study
from medsr_reader_study.form import pack
from tests.apps.reader_study.small_run import METHODS, view_path, write_run

CONTENT = re.compile(r'<script type="application/json" id="study">(.*?)</script>', re.DOTALL)


def content_of(form: Path) -> dict:
    return json.loads(CONTENT.search(form.read_text())[1])


def unpacked(picture: dict) -> np.ndarray:
    """As the form's script does it: a running sum along each row, modulo 256."""
    shape = picture["slices"], picture["rows"], picture["columns"]
    differences = np.frombuffer(zlib.decompress(base64.b64decode(picture["data"])), np.uint8).reshape(shape)
    return np.cumsum(differences, axis=-1, dtype=np.uint8)


def stack(run: Path, case: str, image: str) -> np.ndarray:
    with np.load(view_path(run, case)) as content:
        return content[f"stack/{image}"]


def test_each_item_shows_the_picture_that_the_key_says(run):
    study = create_study(run, readers=2)
    key = json.loads(study.key.read_text())
    assert key["reference"] == "cubic" and {c["subject"] for c in key["cases"]} == {f"sub-{n:02d}" for n in range(1, 6)}
    for form, reader in zip(study.forms, key["readers"], strict=True):
        content = content_of(form)
        assert content["study"] == key["study"] and content["reader"] == reader["reader"]
        assert [item["id"] for item in content["items"]] == [item["item"] for item in reader["items"]]
        assert len(reader["items"]) == study.n_items == 5 * 4 + 2
        for item, meant in zip(content["items"], reader["items"], strict=True):
            picture = item["picture"]
            assert item["aid"] is None and picture["label"] == ""
            assert np.array_equal(unpacked(picture), stack(run, meant["case"], meant["method"]))
            assert picture["pixel_mm"] == [1.2, 1.0] and item["letters"] == ["R", "L", "P", "A"]


def test_pack_is_lossless(rng):
    stack = rng.integers(0, 256, (3, 7, 5), dtype=np.uint8)
    before = stack.copy()
    packed = {"slices": 3, "rows": 7, "columns": 5, "data": pack(stack)}
    assert np.array_equal(unpacked(packed), stack) and np.array_equal(stack, before)


@pytest.mark.parametrize("layout", ["single", "side-by-side"])
def test_no_form_names_a_method_a_case_or_the_run(tmp_path, layout):
    methods = ("zz-cubic", "zz-sr", "zz-sr@0.5")
    run = write_run(tmp_path / "secret_run", methods=methods)
    study = create_study(run, readers=3, out=tmp_path / "out", layout=layout)
    for form in study.forms:
        assert not re.search("zz-|secret_run|sub-0|_T1w|box_noise|repeat_of", form.read_text())
        for item in content_of(form)["items"]:
            assert set(item) == {"id", "letters", "picture", "aid"} and re.fullmatch("[0-9a-f]{10}", item["id"])
            assert item["picture"]["label"] == ("" if layout == "single" else "Picture")
    assert {path.name for path in study.forms} == {"reader_1.html", "reader_2.html", "reader_3.html"}
    assert study.key.parent != study.forms[0].parent


def test_forms_load_nothing_from_elsewhere(run):
    page = create_study(run, readers=1).forms[0].read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|\bimport\b|fetch\(|XMLHttpRequest|src=\"(?!data:)", CONTENT.sub("", page))


def test_readers_share_no_identifier_and_no_order(run):
    key = json.loads(create_study(run, readers=3).key.read_text())
    orders = [[(i["case"], i["method"]) for i in reader["items"]] for reader in key["readers"]]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    identifiers = [i["item"] for reader in key["readers"] for i in reader["items"]]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize(("beside", "label", "rows"), [("hr", "Reference", 20), ("lr", "Input", 10)])
def test_side_by_side_shows_the_same_aid_for_every_method(run, beside, label, rows):
    study = create_study(run, readers=1, layout="side-by-side", beside=beside)
    items = json.loads(study.key.read_text())["readers"][0]["items"]
    content = content_of(study.forms[0])
    assert len(content["aids"]) == 5  # once a case
    for item, meant in zip(content["items"], items, strict=True):
        aid, picture = content["aids"][item["aid"]], item["picture"]
        assert (aid["label"], aid["rows"], picture["label"]) == (label, rows, "Picture")
        assert np.array_equal(unpacked(aid), stack(run, meant["case"], beside))
        assert np.array_equal(unpacked(picture), stack(run, meant["case"], meant["method"]))
        assert aid["rows"] * aid["pixel_mm"][0] == picture["rows"] * picture["pixel_mm"][0]


def test_methods_and_the_hidden_reference_are_chosen(run):
    study = create_study(run, readers=1, methods=["sr", "cubic"], blind_hr=False, repeats=0)
    items = json.loads(study.key.read_text())["readers"][0]["items"]
    assert {item["method"] for item in items} == {"sr", "cubic"} and len(items) == study.n_items == 10
    without = create_study(run, readers=1, methods=["sr", "sr@1"], out=run / "other")
    assert json.loads(without.key.read_text())["reference"] == "sr"  # the run's baseline is not read


def test_a_study_is_never_written_over(run):
    study = create_study(run)
    key = study.key.read_text()
    with pytest.raises(InputError, match="holds something already"):
        create_study(run, seed=1)
    assert study.key.read_text() == key


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"readers": 0}, "--readers 0"),
        ({"layout": "pairs"}, "--layout pairs"),
        ({"beside": "sr"}, "--beside sr"),
        ({"methods": ["sr", "edsr"]}, "no pictures of edsr; there are cubic, sr, sr@1"),
        ({"methods": ["hr"]}, "--blind_hr"),
        ({"methods": ["sr", "sr"]}, "named twice"),
        ({"methods": []}, "no method"),
        ({"blind_hr": 2}, "--blind_hr 2"),
        ({"condition": "gaussian_noise0"}, "there are box_noise0"),
        ({"repeats": 3}, "--repeats 3"),
    ],
)
def test_refuses(run, arguments, words):
    with pytest.raises(InputError, match=words):
        create_study(run, **arguments)
    assert not (run / "reader_study").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stack_plane": "oblique"}, "stack_plane 'oblique'"),
        ({"spacing_mm": [1, 0, 1]}, "spacing_mm"),
        ({"images": ["lr", "sr"]}, "no image 'hr'"),
        ({"images": ["hr", "edsr"]}, r"\(no plane/edsr/sagittal\); run `medsr evaluate` again"),
    ],
)
def test_pictures_of_another_kind_are_refused(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        create_study(write_run(tmp_path / "run", cases=1, **changes))


def test_damaged_and_missing_pictures_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        create_study(tmp_path)
    file = sorted((run / "views").iterdir())[0]
    file.write_bytes(b"half a file")
    with pytest.raises(InputError, match=re.escape(str(file))):
        create_study(run)


def test_a_method_of_another_size_would_give_itself_away(run):
    file = sorted((run / "views").iterdir())[0]
    content = dict(np.load(file))
    content["stack/sr"] = content["stack/sr"][:, ::2]
    np.savez(file, **content)
    with pytest.raises(InputError, match="need one grid"):
        create_study(run)


def test_pictures_of_two_conditions_need_a_choice(run):
    file = sorted((run / "views").iterdir())[0]
    content = dict(np.load(file))
    content["meta"] = json.dumps(json.loads(str(content["meta"])) | {"condition": "gaussian_noise0.02"})
    np.savez(file.with_name("again.npz"), **content)
    with pytest.raises(InputError, match="choose one with --condition"):
        create_study(run)
    study = create_study(run, condition="gaussian_noise0.02", readers=1, repeats=0)
    assert study.n_items == len(METHODS) + 1
