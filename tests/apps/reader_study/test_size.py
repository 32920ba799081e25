"""How large a form becomes: cropped alike for every image, and below the limit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from medsr_monai.evaluation.record.views import View
from medsr_monai.geometry.planes import PLANES
from medsr_monai.system.errors import InputError
from medsr_reader_study import create_study, size
from tests.apps.reader_study.small_run import write_run
from tests.apps.reader_study.test_creation import content_of, unpacked


def view_of(rows: slice, columns: slice) -> View:
    """Where each pixel of the reference has a grey value of its own within the foreground, and an input of half."""
    hr = np.zeros((3, 60, 48), dtype=np.uint8)
    hr[1, rows, columns] = np.arange(60 * 48).reshape(60, 48)[rows, columns] % 200 + 50
    stacks = {"lr": hr[:, ::2, ::2], "hr": hr, "sr": 255 - hr}
    return View(
        case="a",
        condition="box_noise0",
        spacing_mm=(1.0, 1.0, 1.0),
        lr_spacing_mm=(2.0, 2.0, 1.0),
        window=(0.0, 1.0),
        planes=(),
        stack_plane=PLANES[2],
        stack_positions_mm=(0.0, 1.0, 2.0),
        cuts={},
        stacks=stacks,
    )


def test_every_image_is_cropped_to_the_references_foreground_with_a_margin():
    view = view_of(slice(21, 30), slice(0, 5))
    stacks = size.cropped(view).stacks
    rows, columns = slice(12, 38), slice(0, 14)  # 8 pixels around, then out to the input's pixels
    for name in ("hr", "sr"):
        assert np.array_equal(stacks[name], view.stacks[name][:, rows, columns])
    assert np.array_equal(stacks["lr"], view.stacks["lr"][:, 6:19, 0:7])


def test_what_cannot_be_cropped_stays_whole():
    dark = view_of(slice(0, 0), slice(0, 0))
    assert size.cropped(dark).stacks["hr"].shape == (3, 60, 48)
    view = view_of(slice(21, 30), slice(0, 5))
    other = replace(view, stacks={**view.stacks, "lr": np.zeros((3, 25, 20), np.uint8)})
    assert size.cropped(other).stacks["sr"].shape == (3, 60, 48)


def test_slices_are_evenly_spaced():
    stack = np.arange(32, dtype=np.uint8)[:, None, None]
    assert size.thinned(stack, 4).ravel().tolist() == [4, 12, 20, 28]
    assert np.array_equal(size.thinned(stack, 40), stack)


@pytest.mark.parametrize("layout", ["single", "side-by-side"])
def test_a_form_stays_below_the_limit_by_fewer_slices(tmp_path, monkeypatch, layout):
    run = write_run(tmp_path / "run", cases=2)  # four slices of noise, which does not get smaller
    whole = create_study(run, readers=1, out=tmp_path / "whole", layout=layout)
    assert whole.n_slices == 4 and whole.form_mb == pytest.approx(whole.forms[0].stat().st_size / 1e6)
    pictures = sum(
        len(p["data"]) for c in [content_of(whole.forms[0])] for p in [*(i["picture"] for i in c["items"]), *c["aids"]]
    )
    monkeypatch.setattr(size, "FEWEST_SLICES", 1)
    monkeypatch.setattr(size, "LARGEST_PICTURES_BYTES", int(0.6 * pictures))
    study = create_study(run, readers=2, out=tmp_path / "small", layout=layout)
    assert study.n_slices == 2 and json.loads(study.key.read_text())["slices"] == 2
    content = content_of(study.forms[1])
    assert all(unpacked(item["picture"]).shape[0] == 2 for item in content["items"])
    assert sum(len(i["picture"]["data"]) for i in content["items"]) <= 0.6 * pictures
    monkeypatch.setattr(size, "FEWEST_SLICES", 3)
    assert create_study(run, readers=1, out=tmp_path / "few", layout=layout).n_slices == 3, "no fewer than these"
    assert create_study(run, readers=1, out=tmp_path / "told", layout=layout, slices=1).n_slices == 1


@pytest.mark.parametrize("slices", [0, -1, 2.5, True, "8"])
def test_a_bad_number_of_slices_is_refused(tmp_path, slices):
    with pytest.raises(InputError, match=f"--slices {slices}"):
        create_study(write_run(tmp_path / "run"), slices=slices)
