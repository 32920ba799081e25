"""Figures to look at: images side by side through the same planes of the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from medsr_monai.geometry import cubic_bspline, reorient
from medsr_monai.geometry.planes import (
    ACCENT,
    BACKGROUND,
    DPI,
    FAINT,
    TEXT,
    Picture,
    Plane,
    close_up_mm,
    foreground_centre_mm,
    grey_window,
)
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import writing
from medsr_monai.volumes import read_volume

FIGURE_WIDTH_PX = 1600
NARROWEST_COLUMN_PX, WIDEST_COLUMN_PX = 400, 800
MARGIN_PX, GAP_PX, COLUMN_GAP_PX, TITLE_PX, HEAD_PX, FOOT_PX = 28, 8, 22, 30, 48, 28
OVERVIEW_SHARE = 0.53
DETAIL_SHARE_OF_VIEW = 0.28


@dataclass(frozen=True)
class Scene:
    """What a figure shows of all its images: the same planes and grey window, of the whole and of a close-up.

    ``views_mm`` are the lower and upper corners of both.
    """

    columns: Mapping[str, Picture]
    window: tuple[float, float]
    centre_mm: np.ndarray
    views_mm: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, columns: Mapping[str, Picture]) -> Scene:
        """Chosen by the first image alone."""
        first = next(iter(columns.values()))
        start, end = first.start_mm, first.end_mm
        window = grey_window(first.voxels)
        centre = foreground_centre_mm(first.voxels, first.spacing_mm, window)
        low, high = close_up_mm(end - start, centre, DETAIL_SHARE_OF_VIEW)
        return cls(columns, window, centre + start, ((start, end), (low + start, high + start)))

    @property
    def first(self) -> Picture:
        return next(iter(self.columns.values()))


def _columns(images: Mapping[str, Any], spacing_mm: Mapping[str, Sequence[float]]) -> dict[str, Picture]:
    """The images, checked: they show the same field of view."""
    if not images:
        raise InputError("no image to show")
    columns: dict[str, Picture] = {}
    for name, image in images.items():
        array = np.asarray(image)
        if array.ndim != 3 or array.size == 0:
            raise InputError(f"image '{name}' has shape {array.shape}: need (X, Y, Z)")
        if name not in spacing_mm:
            raise InputError(f"image '{name}': its spacing in mm is missing")
        spacing = np.asarray(spacing_mm[name], dtype=float)
        if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
            raise InputError(f"image '{name}': spacing {spacing_mm[name]} mm, need three positive numbers")
        columns[name] = Picture(array, tuple(spacing))
        first_name, first = next(iter(columns.items()))
        for axis, difference in enumerate(2 * np.abs(columns[name].start_mm - first.start_mm)):
            if difference > max(spacing[axis], first.spacing_mm[axis]) * 1.001:
                raise InputError(
                    f"image '{name}' spans {difference:.1f} mm more or less than '{first_name}' along axis {axis}: "
                    "need the same field of view"
                )
    return columns


def _mark(axes: Axes, plane: Plane, detail_mm: tuple[np.ndarray, np.ndarray]) -> None:
    """The letters of the body's sides, and a frame around the detail."""
    low, high = detail_mm
    for letter, (x, y) in zip(plane.letters, ((0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1)), strict=True):
        axes.annotate(
            letter,
            (x, y),
            xytext=(3 - 6 * x, 2 - 4 * y),
            xycoords="axes fraction",
            textcoords="offset points",
            ha=("left", "center", "right")[int(2 * x)],
            va=("bottom", "center", "top")[int(2 * y)],
            color=TEXT,
            fontsize=8,
            weight="bold",
            path_effects=[patheffects.withStroke(linewidth=1.5, foreground=BACKGROUND)],
        )
    corner, sides = (-high[plane.across], low[plane.up]), (high - low)[[plane.across, plane.up]]
    axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=ACCENT, linewidth=0.8))


def _show(
    axes: Axes, picture: Picture, plane: Plane, scene: Scene, view_mm: tuple[np.ndarray, np.ndarray], frame: str
) -> None:
    """Draw one slice, in mm, of which ``view_mm`` (lower and upper corner) is seen."""
    across, up = plane.across, plane.up
    low, high = view_mm
    start, end, spacing = picture.start_mm, picture.end_mm, np.array(picture.spacing_mm)
    voxels_in_view = (high - low)[[across, up]] / spacing[[across, up]]
    # Voxels stay visible as they are; only where they are more than the pixels, they are averaged rather than dropped.
    shrunk = (voxels_in_view > (axes.bbox.width, axes.bbox.height)).any()
    # Sagittal runs P to A and coronal L to R against the arrays' direction, so the horizontal axis is mirrored.
    axes.imshow(
        picture.cut(plane, scene.centre_mm[plane.normal]),
        cmap="gray",
        vmin=scene.window[0],
        vmax=scene.window[1],
        interpolation="hanning" if shrunk else "nearest",
        origin="upper",
        extent=(-end[across], -start[across], start[up], end[up]),
        aspect="auto",
    )
    axes.set(xlim=(-high[across], -low[across]), ylim=(low[up], high[up]), xticks=[], yticks=[], facecolor=BACKGROUND)
    axes.spines[:].set(edgecolor=frame, linewidth=0.8)


def _draw(columns: Mapping[str, Picture], title: str | None) -> Figure:
    """Every column holds an overview and, to its right, a detail; rows are planes. All measures are in pixels."""
    scene, count = Scene.of(columns), len(columns)
    planes = scene.first.planes
    room = (FIGURE_WIDTH_PX - 2 * MARGIN_PX + COLUMN_GAP_PX) / count - COLUMN_GAP_PX
    column = min(max(room, NARROWEST_COLUMN_PX), WIDEST_COLUMN_PX)
    boxes = OVERVIEW_SHARE * column, (1 - OVERVIEW_SHARE) * column - GAP_PX
    sizes = [(high - low) * box / (high - low).max() for (low, high), box in zip(scene.views_mm, boxes, strict=True)]
    rows = [max(size[plane.up] for size in sizes) for plane in planes]
    top = HEAD_PX + (TITLE_PX if title else 0)
    width = 2 * MARGIN_PX + count * (column + COLUMN_GAP_PX) - COLUMN_GAP_PX
    height = top + sum(rows) + (len(planes) - 1) * GAP_PX + FOOT_PX
    figure = Figure((width / DPI, height / DPI), dpi=DPI, facecolor=BACKGROUND)

    def write(x: float, y: float, text: str, size: float, color: str, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=size, color=color, parse_math=False, va="center", **style)

    if title:
        write(MARGIN_PX, TITLE_PX * 0.65, title, 11, TEXT, weight="bold")
    for index, (name, picture) in enumerate(columns.items()):
        left, middle = MARGIN_PX + index * (column + COLUMN_GAP_PX), float(top)
        grid, spacing = " × ".join(map(str, picture.voxels.shape)), " × ".join(f"{mm:.2f}" for mm in picture.spacing_mm)
        write(left, top - 32, name, 10, TEXT, weight="bold")
        write(left, top - 14, f"{grid} voxels of {spacing} mm", 8, FAINT)
        for plane, row in zip(planes, rows, strict=True):
            middle += row / 2
            if index == 0:
                write(MARGIN_PX / 2, middle, plane.name, 8, FAINT, rotation=90, ha="center")
            for start, box, size, view, frame in zip(
                (left, left + boxes[0] + GAP_PX), boxes, sizes, scene.views_mm, (BACKGROUND, ACCENT), strict=True
            ):
                across, up = size[[plane.across, plane.up]]
                place = (start + (box - across) / 2) / width, 1 - (middle + up / 2) / height
                axes = figure.add_axes((*place, across / width, up / height))
                _show(axes, picture, plane, scene, view, frame)
                if frame == BACKGROUND:
                    _mark(axes, plane, scene.views_mm[1])
            middle += row / 2 + GAP_PX
    low, high = scene.views_mm[1]
    note = (
        f"Same planes and same grey window ({scene.window[0]:.4g} to {scene.window[1]:.4g}) for all. Boxes: detail, "
        f"{(high - low).max():.0f} mm wide, voxels shown as they are."
    )
    write(MARGIN_PX, height - FOOT_PX / 2, note, 7.5, FAINT)
    return figure


def save_three_planes(
    path: str | Path,
    images: Mapping[str, Any],
    spacing_mm: Mapping[str, Sequence[float]],
    title: str | None = None,
) -> Path:
    """Save a PNG: one column per image; sagittal, coronal and axial in rows, each with a magnified detail.

    All columns show the same planes in mm, through the median of the first image's foreground, at the right aspect
    ratio and in the first image's grey window. The detail is a cube around that point, chosen without looking at
    differences.

    Args:
        path: the PNG to write; its folder is made where missing, an existing file is replaced at once.
        images: (X, Y, Z) arrays in RAS+ orientation by name, from left to right, e.g. input, cubic, sr, hr.
        spacing_mm: voxel size (3,) of every image, by the same names. All cover the same field of view, to a voxel.
        title: a line above.

    Returns:
        The path.

    Raises:
        InputError: an image that is not 3D or covers another field of view, a spacing that is missing, or a file that
            cannot be written.
    """
    path = Path(path)
    figure = _draw(_columns(images, spacing_mm), title)
    with writing(path, ".png") as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor=BACKGROUND)
    return path


def save_comparison(path: str | Path, lr_path: str | Path, sr_path: str | Path) -> Path:
    """Picture an upscaled volume beside its input and cubic B-spline interpolation, of a series the first volume.

    Args:
        path: the PNG to write.
        lr_path: the input volume.
        sr_path: what was made of it.

    Returns:
        The path.

    Raises:
        InputError: a volume that cannot be read, or a picture that cannot be written.
    """
    images, spacing = {}, {}
    for name, file in {"input": lr_path, "sr": sr_path}.items():
        volume = read_volume(file)
        grid, orientation = volume.grid.canonical()
        data = volume.data if volume.data.ndim == 3 else volume.data[..., 0]
        images[name], spacing[name] = reorient(data, orientation).copy(), grid.spacing_mm
    cubic = cubic_bspline(torch.from_numpy(images["input"])[None, None], images["sr"].shape)[0, 0].numpy()
    names = "input", "cubic B-spline", "super-resolution"
    columns = dict(zip(names, (images["input"], cubic, images["sr"]), strict=True))
    return save_three_planes(
        path, columns, dict(zip(names, (spacing["input"], spacing["sr"], spacing["sr"]), strict=True))
    )
