"""How large a form becomes: pictures cropped to what there is to see, and fewer slices where they are too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medsr_monai.evaluation.plan import HR, LR
from medsr_monai.evaluation.record.views import View
from medsr_reader_study.form import pack

LARGEST_PICTURES_BYTES = 59_000_000  # of one form; the form itself, with its scripts, stays below 60 MB
FEWEST_SLICES = 8  # nobody judges a volume by less: a form of very many pictures grows instead
FOREGROUND_GREY = 26  # a tenth of the grey window
MARGIN_PIXELS = 8


def cropped(view: View) -> View:
    """The part of the pictures that the reference's foreground needs, the same for every image.

    Edges lie on those of the input's pixels, so that all images keep one field of view; pictures whose grids do not
    fit in each other are left whole.
    """
    seen = view.stacks[HR].max(axis=0) > FOREGROUND_GREY
    coarse = np.array(view.stacks[LR].shape[1:])
    if not seen.any() or (seen.shape % coarse).any():
        return view
    factor, inside = seen.shape // coarse, np.argwhere(seen)
    low = np.maximum((inside.min(0) - MARGIN_PIXELS) // factor, 0)  # in the input's pixels, as is high
    high = np.minimum(-(-(inside.max(0) + 1 + MARGIN_PIXELS) // factor), coarse)
    stacks = {}
    for name, stack in view.stacks.items():
        (top, left), (bottom, right) = (edge * (stack.shape[1:] // coarse) for edge in (low, high))
        stacks[name] = stack[:, top:bottom, left:right]
    return replace(view, stacks=stacks)


def thinned(stack: np.ndarray, most: int) -> np.ndarray:
    """At most so many slices, evenly spaced, of (slices, rows, columns)."""
    number = min(most, len(stack))
    return stack[((np.arange(number) + 0.5) * len(stack) / number).astype(int)]


def pack_pictures(
    views: Mapping[str, View], forms: Sequence[Sequence[tuple[str, str]]], slices: int | None
) -> tuple[dict[tuple[str, str], dict[str, Any]], int]:
    """The pictures of all forms, each packed once.

    `forms`: for each reader the pictures in the form, case and image. `slices`: the most of a picture; None for as many
    as keep every form below 60 MB, but not below 8.

    Returns:
        Pictures without a label by case and image, and the most slices that one has.
    """
    wanted = sorted({shown for form in forms for shown in form})
    most = max(len(views[case].stacks[image]) for case, image in wanted)
    most = most if slices is None else min(most, slices)
    while True:
        packed = {
            (case, image): {
                **dict(zip(("slices", "rows", "columns"), stack.shape, strict=True)),
                "pixel_mm": list(views[case].pixel_mm(image, views[case].stack_plane)),
                "data": pack(stack),
            }
            for case, image in wanted
            for stack in [thinned(views[case].stacks[image], most)]
        }
        size = max(sum(len(packed[shown]["data"]) for shown in form) for form in forms)
        if slices is not None or size <= LARGEST_PICTURES_BYTES or most <= FEWEST_SLICES:
            return packed, most
        most = max(FEWEST_SLICES, min(most - 1, int(most * LARGEST_PICTURES_BYTES / size)))
