"""A figure of middle slices: images side by side, and the error of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medsr_monai.geometry.planes import BACKGROUND, DPI, PLANES, TEXT, Plane, grey_window
from medsr_monai.system.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_PX, HEAD_PX, GAP_PX = 220, 26, 4
# The error's colours span a fixed share of the grey window, so that pictures of different epochs are comparable.
ERROR_SHARE = 0.2


def middle_slice(image: np.ndarray, plane: Plane) -> np.ndarray:
    """The middle slice of (X, Y, Z); its rows go upwards, its columns to the right."""
    return np.take(image, image.shape[plane.normal] // 2, axis=plane.normal).T[:, ::-1]


def _panel(axes: Axes, cut: np.ndarray, window: tuple[float, float], colours: str) -> None:
    # All panels have the same width for any number of voxels, because the field of view is the same.
    axes.imshow(
        cut, cmap=colours, vmin=window[0], vmax=window[1], interpolation="nearest", origin="lower", aspect="auto"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_middle_planes(images: Mapping[str, np.ndarray], reference: str, judged: str) -> Figure:
    """Draw images side by side and the error ``|judged - reference|``; rows are axial, coronal and sagittal.

    An image of one slice has the row of that slice alone.
    All images show the same field of view in the reference's grey window, each with its own voxels. Voxels of the
    reference are drawn as cubes.

    Args:
        images: (X, Y, Z) arrays in RAS order by name, from left to right.
        reference: name of the image that sets the grey window and the proportions.
        judged: name of the image whose error is shown.

    Returns:
        A figure with ``PANEL_PX`` pixels per column.

    Raises:
        InputError: an image is not 3D, or the judged image and the reference differ in shape.
    """
    from matplotlib.figure import Figure

    for name, image in images.items():
        if image.ndim != 3 or image.size == 0:
            raise InputError(f"image '{name}' has shape {image.shape}, but need (X, Y, Z)")
    hr, sr = images[reference], images[judged]
    if hr.shape != sr.shape:
        raise InputError(f"image '{judged}' has shape {sr.shape} and '{reference}' {hr.shape}, but they must be equal")
    window = grey_window(hr)
    error_range = (0.0, ERROR_SHARE * (window[1] - window[0]))
    planes = [plane for plane in PLANES[::-1] if min(hr.shape) > 1 or hr.shape[plane.normal] == 1]
    heights = [PANEL_PX * hr.shape[plane.up] / hr.shape[plane.across] for plane in planes]
    width = (len(images) + 1) * (PANEL_PX + GAP_PX)
    height = HEAD_PX + sum(heights) + len(planes) * GAP_PX
    figure = Figure((width / DPI, height / DPI), dpi=DPI, facecolor=BACKGROUND)
    shown = [(name, image, window, "gray") for name, image in images.items()]
    shown.append((f"error, to {error_range[1]:.3g}", np.abs(sr - hr), error_range, "inferno"))
    for column, (name, image, limits, colours) in enumerate(shown):
        left, top = column * (PANEL_PX + GAP_PX), float(HEAD_PX)
        at = ((left + PANEL_PX / 2) / width, 1 - HEAD_PX / 2 / height)
        figure.text(*at, name, color=TEXT, fontsize=9, ha="center", va="center", parse_math=False)
        for plane, panel_height in zip(planes, heights, strict=True):
            box = (left / width, 1 - (top + panel_height) / height, PANEL_PX / width, panel_height / height)
            _panel(figure.add_axes(box), middle_slice(image, plane), limits, colours)
            top += panel_height + GAP_PX
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """Render a figure to pixels, (height, width, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
