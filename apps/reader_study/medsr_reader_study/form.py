"""One reader's form: a single HTML file with its pictures, which works from a disk without a network."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from medsr_monai.evaluation.plan import HR, LR
from medsr_monai.evaluation.record.views import View
from medsr_reader_study.answers import ANSWERS_FORMAT, VERSION
from medsr_reader_study.design import Item
from medsr_reader_study.questions import QUESTIONS

BESIDE = {HR: "Reference", LR: "Input"}
# Packed pictures by case and image.
Pictures = Mapping[tuple[str, str], Mapping[str, Any]]


def pack(stack: np.ndarray) -> str:
    """Base64 of the zlib stream of each row's differences, lossless; ``form.js`` undoes it.

    Not PNG: a browser that guards against fingerprinting changes the pixels that a page reads back from a canvas.
    Differences to the left neighbour, modulo 256, take less room than grey values.

    Args:
        stack: uint8, (slices, rows, columns).
    """
    differences = stack.copy()
    differences[..., 1:] -= stack[..., :-1]
    return base64.b64encode(zlib.compress(differences.tobytes(), 6)).decode("ascii")


def form_html(
    study: str, reader: int, items: Sequence[Item], views: Mapping[str, View], packed: Pictures, aid: str | None
) -> str:
    """The form's text: pictures in the reader's order, and no name of a case or method.

    `aid`: the image that is shown beside each picture, once a case; None for none.
    """
    label = "" if aid is None else "Picture"
    numbers: dict[str, int] = {}  # of the cases' aids, as they are first needed
    shown = [
        {
            "id": item.item,
            "letters": list(views[item.case].stack_plane.letters),
            "picture": {**packed[item.case, item.method], "label": label},
            "aid": None if aid is None else numbers.setdefault(item.case, len(numbers)),
        }
        for item in items
    ]
    content = {
        "format": ANSWERS_FORMAT,
        "version": VERSION,
        "study": study,
        "reader": reader,
        "questions": [question["name"] for question in QUESTIONS],
        "items": shown,
        "aids": [{**packed[case, aid], "label": BESIDE[aid]} for case in numbers if aid],
    }
    environment = Environment(
        loader=PackageLoader("medsr_reader_study", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("form.html").render(study=content, questions=QUESTIONS, aid=BESIDE.get(aid or ""))
