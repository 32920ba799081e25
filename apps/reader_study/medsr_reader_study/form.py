"""One reader's form: a single HTML file with its pictures, which works from a disk without a network."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from medsr_monai.geometry.planes import Plane
from medsr_reader_study.answers import ANSWERS_FORMAT, VERSION
from medsr_reader_study.questions import QUESTIONS


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


def picture(stack: np.ndarray, pixel_mm: tuple[float, float], label: str) -> dict[str, Any]:
    """A panel as the form reads it; the label is what the reader sees above it."""
    slices, rows, columns = stack.shape
    return {
        "label": label,
        "slices": slices,
        "rows": rows,
        "columns": columns,
        "pixel_mm": list(pixel_mm),
        "data": pack(stack),
    }


def form_item(identifier: str, plane: Plane, rated: Mapping[str, Any], aid: int | None) -> dict[str, Any]:
    """An item as the form reads it: its opaque identifier, letters at the borders, picture, and number of the aid."""
    return {"id": identifier, "letters": list(plane.letters), "picture": rated, "aid": aid}


def form_html(
    study: str, reader: int, items: Sequence[Mapping[str, Any]], aids: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The form's text.

    Args:
        study: identifier of the study.
        reader: number of the reader.
        items: see ``form_item``, in the order in which they are read.
        aids: pictures to compare with, one a case, in the order in which they are first needed.
    """
    content = {
        "format": ANSWERS_FORMAT,
        "version": VERSION,
        "study": study,
        "reader": reader,
        "questions": [
            {"name": q.name, "title": q.title, "text": q.text, "anchors": [list(a) for a in q.anchors]}
            for q in QUESTIONS
        ],
        "items": list(items),
        "aids": list(aids),
    }
    # "</script>" within a string would end the element.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    page = _resource("form.html")
    for mark, text in (
        ("/*STYLE*/", _resource("form.css")),
        ("/*PICTURES*/", _resource("pictures.js")),
        ("/*FORM*/", _resource("form.js")),
        ("/*STUDY*/", data),
    ):
        page = page.replace(mark, text)
    return page


def _resource(name: str) -> str:
    return files("medsr_reader_study").joinpath(name).read_text(encoding="utf-8")
