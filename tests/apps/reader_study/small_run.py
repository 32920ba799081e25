"""A tiny evaluation to read: five cases, three methods, pictures that differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.evaluation.plan import Condition
from tests.evaluation.report import runs

METHODS = ("cubic", "sr", "sr@1")
CONDITION = Condition("box", 0.0)


def view_path(run: Path, case: str) -> Path:
    """The pictures of a case."""
    return run / "views" / f"case{int(case[4:6]) - 1}.{CONDITION.name}.npz"


def write_run(folder: Path, cases: int = 5, methods: tuple[str, ...] = METHODS, **changes: Any) -> Path:
    """A made-up evaluation; ``changes`` spoil what the pictures say of themselves."""
    names = [f"sub-{n + 1:02d}_T1w<b>" for n in range(cases)]
    subjects = [name.split("_")[0] for name in names]
    layout = runs.Layout(names, subjects, (("box", 0.0),), methods, pictures=cases, slices=4, shape=(16, 20, 10))
    runs.write_run(folder, layout)
    for path in sorted((folder / "views").iterdir()) if changes else ():
        arrays = dict(np.load(path))
        np.savez(path, **arrays | {"meta": json.dumps(json.loads(str(arrays["meta"])) | changes)})
    return folder


def answer(study: Path, reader: int, rate: Callable[[str, str, str], int]) -> Path:
    """A file of answers as a form saves it, ``rate(question, case, method)`` giving each rating."""
    key = json.loads((study / "key.json").read_text())
    items = key["readers"][reader - 1]["items"]
    questions = [question["name"] for question in key["questions"]]
    answers = [{"item": i["item"], **{q: rate(q, i["case"], i["method"]) for q in questions}} for i in items]
    content = {"format": "medsr-reader-answers", "version": 1, "study": key["study"], "reader": reader}
    file = study / f"reader_{reader}.json"
    file.write_text(json.dumps({**content, "answers": answers}))
    return file
