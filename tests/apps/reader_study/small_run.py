"""A tiny evaluation to read: five cases, three methods, pictures that differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("cubic", "sr", "sr@1")
CONDITION = "box_noise0"


def write_run(folder: Path, cases: int = 5, methods: tuple[str, ...] = METHODS, **changes: Any) -> Path:
    """``RUN/views/*.npz`` and the little of ``cases.json`` that a reader study reads."""
    (folder / "views").mkdir(parents=True)
    names = [f"sub-{n + 1:02d}_T1w<b>" for n in range(cases)]
    for n, case in enumerate(names):
        rng = np.random.default_rng(n)
        meta = {
            "case": case,
            "condition": CONDITION,
            "spacing_mm": [1.0, 1.5, 1.0],
            "lr_spacing_mm": [2.0, 3.0, 2.0],
            "window": [0.0, 1.0],
            "planes": ["sagittal", "coronal", "axial"],
            "stack_plane": "axial",
            "stack_positions_mm": [0.0, 2.0, 4.0, 6.0],
            "images": ["lr", "hr", *methods],
        } | changes
        stacks = {f"stack/{name}": rng.integers(0, 256, (4, 20, 16), dtype=np.uint8) for name in ("hr", *methods)}
        stacks["stack/lr"] = rng.integers(0, 256, (4, 10, 8), dtype=np.uint8)
        np.savez(folder / "views" / f"{case.replace('<b>', '')}.{CONDITION}.npz", meta=json.dumps(meta), **stacks)
    rows = [{"case": case, "subject": case.split("_")[0], "method": m} for case in names for m in methods]
    (folder / "cases.json").write_text(json.dumps({"baseline": "cubic", "rows": rows}))
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
