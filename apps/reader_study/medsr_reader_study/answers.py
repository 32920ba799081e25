"""What readers answered, checked against the study's key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import read_json
from medsr_reader_study.questions import HIGHEST, LOWEST

STUDY_FORMAT, ANSWERS_FORMAT, VERSION = "medsr-reader-study", "medsr-reader-answers", 1
KEY_FILE = "key.json"


@dataclass(frozen=True)
class Rating:
    """One item as one reader rated it; ``values`` by the question's name."""

    reader: int
    item: str
    case: str
    subject: str
    method: str
    repeat_of: str | None
    values: Mapping[str, int]
    note: str = ""


def read_key(study: str | Path) -> dict[str, Any]:
    """The key of a study: its folder, or the file itself."""
    path = Path(study)
    file = path / KEY_FILE if path.is_dir() else path
    key = read_json(file, "need the key of a study, made by medsr reader-study create")
    if key.get("format") != STUDY_FORMAT or key.get("version") != VERSION:
        raise InputError(f"{file}: not the key of a study of version {VERSION}, made by medsr reader-study create")
    return key


def read_answers(file: str | Path, key: Mapping[str, Any]) -> list[Rating]:
    """The ratings in one file of answers, in the order in which they were asked for.

    Raises:
        InputError: the file is damaged or of another study, an item is missing, unknown or there twice, or a rating is
            not a whole number from 1 to 5. The message names file and item.
    """
    content = read_json(Path(file), "need answers, as downloaded from a reading form")
    if content.get("format") != ANSWERS_FORMAT or content.get("version") != VERSION:
        raise InputError(f"{file}: not answers of version {VERSION}, as downloaded from a reading form")
    if content.get("study") != key["study"]:
        raise InputError(f"{file}: answers of study {content.get('study')}, but the key is of study {key['study']}")
    form = next((form for form in key["readers"] if form["reader"] == content.get("reader")), None)
    if form is None:
        raise InputError(f"{file}: reader {content.get('reader')} is not in this study of {len(key['readers'])}")
    given = _by_item(file, content.get("answers"))
    known = {item["item"] for item in form["items"]}
    for name in given:
        if name not in known:
            raise InputError(
                f"{file}: item {name} is not in the form of reader {form['reader']}; ids must stay as they are"
            )
    subjects = {case["case"]: case["subject"] for case in key["cases"]}
    ratings = []
    for position, item in enumerate(form["items"], 1):
        where = f"{file}: item {item['item']} (number {position} of {len(form['items'])})"
        answer = given.get(item["item"], {})
        values = {question["name"]: _rating(where, question["name"], answer) for question in key["questions"]}
        note = str(answer.get("note") or "")
        ratings.append(Rating(form["reader"], **item, subject=subjects[item["case"]], values=values, note=note))
    return ratings


def read_all_answers(files: Sequence[str | Path], key: Mapping[str, Any]) -> list[Rating]:
    """The ratings of all files, each of another reader."""
    if not files:
        raise InputError("no answers: name the files downloaded from the forms, as reader_1.json reader_2.json")
    ratings: list[Rating] = []
    by_reader: dict[int, str | Path] = {}
    for file in files:
        found = read_answers(file, key)
        reader = found[0].reader
        if reader in by_reader:
            raise InputError(f"{file}: reader {reader} again, as in {by_reader[reader]}; give one file a reader")
        by_reader[reader] = file
        ratings += found
    return sorted(ratings, key=lambda rating: rating.reader)


def _by_item(file: str | Path, answers: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(answers, list) or not all(
        isinstance(a, dict) and isinstance(a.get("item"), str) for a in answers
    ):
        raise InputError(f"{file}: 'answers' is not a list of items; download the answers from the form again")
    given: dict[str, Mapping[str, Any]] = {}
    for answer in answers:
        if answer["item"] in given:
            raise InputError(f"{file}: item {answer['item']} is answered twice")
        given[answer["item"]] = answer
    return given


def _rating(where: str, question: str, answer: Mapping[str, Any]) -> int:
    value = answer.get(question)
    if value is None:
        missing = f"no answer to {question}" if answer else "no answer"
        raise InputError(f"{where} has {missing}; let the reader load the file into the form and finish it")
    if isinstance(value, bool) or not isinstance(value, int) or not LOWEST <= value <= HIGHEST:
        raise InputError(f"{where}: {question} {value!r} is not a whole number from {LOWEST} to {HIGHEST}")
    return value
