"""A tiny evaluation to read: five cases, three methods, pictures that differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.evaluation.plan import Condition, Method
from medsr_monai.evaluation.record.rows import Result
from medsr_monai.evaluation.record.tables import CaseTable
from medsr_monai.evaluation.record.views import View
from medsr_monai.geometry.planes import PLANES

METHODS = ("cubic", "sr", "sr@1")
CONDITION = Condition("box", 0.0)
AXIAL = PLANES[2]


def write_run(folder: Path, cases: int = 5, methods: tuple[str, ...] = METHODS, **changes: Any) -> Path:
    """``RUN/views/*.npz`` and ``cases.json``; ``changes`` spoil what the pictures say of themselves."""
    names = [f"sub-{n + 1:02d}_T1w<b>" for n in range(cases)]
    for n, case in enumerate(names):
        rng = np.random.default_rng(n)
        images = ("hr", *methods)
        view = View(
            case=case,
            condition=CONDITION.name,
            spacing_mm=(1.0, 1.5, 1.0),
            lr_spacing_mm=(2.0, 3.0, 2.0),
            window=(0.0, 1.0),
            planes=(AXIAL,),
            stack_plane=AXIAL,
            stack_positions_mm=(0.0, 2.0, 4.0, 6.0),
            cuts={(name, "axial"): np.zeros((10, 8) if name == "lr" else (20, 16)) for name in ("lr", *images)},
            stacks={"lr": grey(rng, 10, 8)} | {name: grey(rng, 20, 16) for name in images},
        )
        path = folder / "views" / f"{case.replace('<b>', '')}.{CONDITION.name}.npz"
        view.write(path)
        if changes:
            arrays = dict(np.load(path))
            np.savez(path, **arrays | {"meta": json.dumps(json.loads(str(arrays["meta"])) | changes)})
    results = [
        Result(case=case, subject=case.split("_")[0], condition=CONDITION, method=method, figures={})
        for case in names
        for method in methods
    ]
    CaseTable(
        baseline="cubic" if "cubic" in methods else methods[0],
        scale=(2, 2, 2),
        conventions=(),
        methods={name: Method(name, name, "network", None, "none") for name in methods},
        conditions={CONDITION.name: CONDITION},
        measures={},
        results=tuple(results),
    ).write(folder)
    return folder


def grey(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return rng.integers(0, 256, (4, rows, columns), dtype=np.uint8)


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
