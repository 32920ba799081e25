"""Answers are checked against the key: one line names file and item."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medsr_monai.system.errors import InputError
from medsr_reader_study.answers import read_all_answers, read_answers, read_key
from medsr_reader_study.creation import create_study
from tests.apps.reader_study.small_run import answer


@pytest.fixture
def study(run: Path) -> Path:
    return create_study(run, readers=2).folder


def changed(file: Path, change: Callable[[dict], object]) -> Path:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


def test_ratings_are_unblinded(study):
    rated = {"cubic": 1, "sr": 2, "sr@1": 3, "hr": 5}
    ratings = read_answers(answer(study, 2, lambda q, case, method: rated[method]), read_key(study))
    assert len(ratings) == 22 and {rating.reader for rating in ratings} == {2}
    assert all(set(rating.values.values()) == {rated[rating.method]} for rating in ratings)
    assert {rating.subject for rating in ratings} == {f"sub-{n:02d}" for n in range(1, 6)}


def test_the_order_in_the_file_does_not_matter(study):
    key = read_key(study / "key.json")
    file = answer(study, 1, lambda q, case, method: len(method))
    expected = read_answers(file, key)
    assert read_answers(changed(file, lambda content: content["answers"].reverse()), key) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(study="0123"), "answers of study 0123, but the key is of study"),
        (lambda c: c.update(reader=3), "reader 3 is not in this study of 2"),
        (lambda c: c.update(format="other"), "not answers of version 1"),
        (lambda c: c.update(answers={}), "'answers' is not a list"),
        (lambda c: c["answers"].pop(4), r"\(number 5 of 22\) has no answer;"),
        (lambda c: c["answers"][4].pop("image_quality"), r"\(number 5 of 22\) has no answer to image_quality"),
        (lambda c: c["answers"][4].update(item="ffff"), "item ffff is not in the form of reader 1"),
        (lambda c: c["answers"].append(c["answers"][0]), "is answered twice"),
        (lambda c: c["answers"][4].update(image_quality=6), r"number 5 of 22\): image_quality 6 is not a whole number"),
        (lambda c: c["answers"][4].update(image_quality=0), "image_quality 0 is not"),
        (lambda c: c["answers"][4].update(image_quality=3.5), r"image_quality 3\.5 is not"),
        (lambda c: c["answers"][4].update(image_quality=True), "image_quality True is not"),
        (lambda c: c["answers"][4].update(diagnostic_usefulness="4"), "diagnostic_usefulness '4' is not"),
    ],
)
def test_refuses_in_one_line_that_names_the_file(study, change, words):
    file = changed(answer(study, 1, lambda *_: 3), change)
    with pytest.raises(InputError, match=words) as caught:
        read_answers(file, read_key(study))
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def test_two_files_of_one_reader_are_refused(study):
    file = answer(study, 1, lambda *_: 3)
    again = study / "copy.json"
    again.write_text(file.read_text())
    with pytest.raises(InputError, match=r"copy\.json: reader 1 again, as in .*reader_1\.json"):
        read_all_answers([file, again], read_key(study))
    with pytest.raises(InputError, match="no answers"):
        read_all_answers([], read_key(study))


@pytest.mark.parametrize("text", ["", "[1]", '{"format": "other"}'])
def test_files_of_another_kind_are_refused(study, tmp_path, text):
    file = tmp_path / "file.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"file\.json"):
        read_key(file)
    with pytest.raises(InputError, match=r"file\.json"):
        read_answers(file, read_key(study))
    with pytest.raises(InputError, match=r"missing\.json: cannot read: No such file"):
        read_key(tmp_path / "missing.json")
