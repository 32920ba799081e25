"""The sheet of middle slices shows the right slices, the right way round."""

from __future__ import annotations

import numpy as np
import pytest

from medsr_monai.geometry.planes import PLANES
from medsr_monai.system.errors import InputError
from medsr_monai.training.handlers.middle_planes import (
    ERROR_SHARE,
    HEAD_PX,
    PANEL_PX,
    draw_middle_planes,
    middle_slice,
    pixels,
)


@pytest.fixture
def images(rng) -> dict[str, np.ndarray]:
    hr = rng.random((8, 12, 10))
    return {"lr": rng.random((4, 6, 5)), "sr": hr + 0.1, "hr": hr}


def test_columns_rows_and_what_they_show(images):
    figure = draw_middle_planes(images, reference="hr", judged="sr")
    assert [text.get_text().split(",")[0] for text in figure.texts] == [*images, "error"]
    shown = [axes.images[0] for axes in figure.axes]
    assert len(shown) == 4 * 3
    arrays = [*images.values(), np.abs(images["sr"] - images["hr"])]
    for column, array in enumerate(arrays):
        for row, plane in enumerate(reversed(PLANES)):
            np.testing.assert_array_equal(shown[3 * column + row].get_array(), middle_slice(array, plane))
    assert {image.get_interpolation() for image in shown} == {"nearest"}
    assert len({image.get_clim() for image in shown[:9]}) == 1
    (low, high), (zero, most) = shown[0].get_clim(), shown[-1].get_clim()
    assert zero == 0 and most == pytest.approx(ERROR_SHARE * (high - low))


def test_planes_are_seen_as_radiologists_do():
    """Brightness grows to the patient's left, back to front and upwards."""
    x, y, z = np.meshgrid(np.arange(5), np.arange(6), np.arange(7), indexing="ij")
    sagittal, coronal, axial = PLANES
    for plane, across, up in ((axial, -x, y), (coronal, -x, z), (sagittal, -y, z)):
        columns, rows = middle_slice(across, plane), middle_slice(up, plane)
        assert (np.diff(columns, axis=1) == 1).all() and (np.diff(rows, axis=0) == 1).all()


def test_pixels_are_the_picture(images):
    picture = pixels(draw_middle_planes(images, reference="hr", judged="sr"))
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert picture.shape[1] > 4 * PANEL_PX
    heights = [PANEL_PX * up / across for across, up in ((8, 12), (8, 10), (12, 10))]
    assert abs(picture.shape[0] - HEAD_PX - sum(heights)) < 20
    assert picture[HEAD_PX + 5, :PANEL_PX].std() > 10


def test_bad_images_are_one_line(images):
    with pytest.raises(InputError, match=r"image 'lr' has shape \(6, 5\)"):
        draw_middle_planes({**images, "lr": images["lr"][0]}, reference="hr", judged="sr")
    with pytest.raises(InputError, match="must be equal"):
        draw_middle_planes(images, reference="hr", judged="lr")
    with pytest.raises(InputError, match="no finite voxel"):
        draw_middle_planes({**images, "hr": images["hr"] * np.nan}, reference="hr", judged="sr")
