"""The three-plane figure: the same place in every column, the right side at every letter, and safe writing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from matplotlib.image import imread

from medsr_monai.evaluation.report import three_planes
from medsr_monai.evaluation.report.three_planes import Scene, save_three_planes
from medsr_monai.geometry.planes import PLANES, WINDOW_PERCENTILES, Picture, close_up_mm
from medsr_monai.system.errors import InputError

SPACING = (1.0, 1.5, 3.0)


@pytest.fixture
def scene(rng):
    """A bright box in noise, and the same averaged by two: names, arrays (X, Y, Z), spacings."""
    hr = 0.02 * rng.random((48, 40, 20))
    hr[10:40, 8:30, 4:18] += 1
    lr = hr.reshape(24, 2, 20, 2, 10, 2).mean(axis=(1, 3, 5))
    return {"input": lr, "sr": hr}, {"input": tuple(2 * s for s in SPACING), "sr": SPACING}


def panels(images, spacing):
    """Overview and detail axes by row and column."""
    axes = three_planes._draw(three_planes._columns(images, spacing), None).axes
    return [[axes[2 * (3 * column + row) :][:2] for column in range(len(images))] for row in range(3)]


def test_writes_a_png_of_the_promised_width(tmp_path, scene):
    path = save_three_planes(tmp_path / "new" / "figure.png", *scene, title="a_title with $signs$")
    pixels = imread(path)
    assert abs(pixels.shape[1] - 1600) <= 2 and pixels.shape[0] > 400
    assert pixels[..., :3].mean() < 0.6 and pixels[..., :3].max() > 0.9
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]


def test_does_not_touch_pyplot(tmp_path, scene, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    save_three_planes(tmp_path / "figure.png", *scene)
    assert "matplotlib.pyplot" not in sys.modules


def test_all_columns_show_the_same_millimetres_at_the_right_aspect(scene):
    extent = np.array([48, 40, 20]) * SPACING
    for plane, row in zip(PLANES, panels(*scene), strict=True):
        for which in (0, 1):
            views = [(*cell[which].get_xlim(), *cell[which].get_ylim()) for cell in row]
            assert views[0] == views[1]
        for cell in row:
            for axes in cell:
                left, right = axes.get_xlim()
                low, high = axes.get_ylim()
                assert axes.bbox.width / axes.bbox.height == pytest.approx((right - left) / (high - low), rel=1e-6)
            left, right = cell[0].get_xlim()
            assert right - left == pytest.approx(extent[plane.across])


def test_all_columns_share_the_first_images_grey_window(scene):
    images, spacing = scene
    limits = {axes.images[0].get_clim() for row in panels(images, spacing) for cell in row for axes in cell}
    assert limits == {tuple(np.percentile(images["input"], WINDOW_PERCENTILES))}


@pytest.mark.parametrize(("axis", "side"), [(0, "R"), (1, "A"), (2, "S")])
def test_letters_stand_where_the_body_is(axis, side):
    """The half of the volume towards R, A or S is bright: so must be the half of each panel that bears the letter."""
    image = np.zeros((20, 20, 20))
    half = [slice(None)] * 3
    half[axis] = slice(10, None)
    image[tuple(half)] = 1
    picture = Picture(image, (1, 1, 1))
    for plane in PLANES:
        if axis == plane.normal:
            continue
        cut = picture.cut(plane, 0.0)
        halves = (cut[:, :10], cut[:, 10:], cut[10:], cut[:10])  # left, right, lower, upper
        brightest = plane.letters[int(np.argmax([h.mean() for h in halves]))]
        assert brightest == side


def test_planes_go_through_the_foreground_in_every_grid(scene):
    shown = Scene.of(three_planes._columns(*scene))
    centre = shown.centre_mm
    # the box spans voxels 10 to 40, 8 to 30, 4 to 18 of a field of view centred on zero
    expected = (np.array([25, 19, 11]) - np.array([24, 20, 10])) * SPACING
    assert np.abs(centre - expected).max() <= 2 * max(SPACING)
    for picture in shown.columns.values():
        for plane in PLANES:
            assert picture.cut(plane, centre[plane.normal]).max() > 0.9


@pytest.mark.parametrize("centre", [(63.0, 1.0, 2.5), (0.0, 64.0, 0.0), (32.0, 32.0, 2.5)])
def test_a_close_up_stays_inside_a_thin_slab(centre):
    size = np.array([64, 64, 5.0])
    low, high = close_up_mm(size, np.array(centre), 0.28)
    assert (low >= 0).all() and (high <= size).all() and (high - low) == pytest.approx([0.28 * 64, 0.28 * 64, 5])


def test_a_single_slice_is_shown_in_its_own_plane_only(scene):
    slices = {name: image[:, :, image.shape[2] // 2 : image.shape[2] // 2 + 1] for name, image in scene[0].items()}
    spacing = {name: (*mm[:2], 5.0) for name, mm in scene[1].items()}
    axes = three_planes._draw(three_planes._columns(slices, spacing), None).axes
    assert len(axes) == 2 * len(slices) and Scene.of(three_planes._columns(slices, spacing)).first.planes == PLANES[2:]


def test_odd_images_are_drawn(tmp_path):
    images = {"constant": np.ones((9, 8, 7)), "holes": np.full((9, 8, 7), np.nan), "one voxel": np.ones((1, 1, 1))}
    spacing = {"constant": (1, 1, 1), "holes": (1, 1, 1), "one voxel": (9, 8, 7)}
    save_three_planes(tmp_path / "odd.png", images, spacing)


@pytest.mark.parametrize(
    ("images", "spacing", "words"),
    [
        ({}, {}, "no image"),
        ({"a": np.ones((3, 3))}, {"a": (1, 1, 1)}, "'a' has shape"),
        ({"a": np.ones((3, 3, 3))}, {}, "'a': its spacing"),
        ({"a": np.ones((3, 3, 3))}, {"a": (1, 0, 1)}, "positive"),
        ({"a": np.ones((3, 3, 3)), "b": np.ones((3, 6, 3))}, {"a": (1, 1, 1), "b": (1, 1, 1)}, "'b' spans .* axis 1"),
        ({"a": np.full((3, 3, 3), np.nan)}, {"a": (1, 1, 1)}, "no finite voxel"),
    ],
)
def test_refuses(tmp_path, images, spacing, words):
    with pytest.raises(InputError, match=words):
        save_three_planes(tmp_path / "figure.png", images, spacing)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path, scene):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        save_three_planes(tmp_path / "file" / "figure.png", *scene)


def test_a_failed_write_leaves_the_old_file(tmp_path, scene, monkeypatch):
    from matplotlib.figure import Figure

    path = tmp_path / "figure.png"
    path.write_text("old")

    def fail(self, target, **_):
        target.write_text("half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(InputError, match="No space left"):
        save_three_planes(path, *scene)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
