"""Figures to look at: images side by side through the same planes of the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_WIDTH_PX = 1600
NARROWEST_COLUMN_PX, WIDEST_COLUMN_PX = 400, 800
MARGIN_PX, GAP_PX, COLUMN_GAP_PX, TITLE_PX, HEAD_PX, FOOT_PX = 28, 8, 22, 30, 48, 28
OVERVIEW_SHARE = 0.53
DETAIL_SHARE_OF_VIEW = 0.28


@dataclass(frozen=True)
class Scene:
    """What a figure shows of all its images: the same planes, close-up and grey window."""

    columns: Mapping[str, Picture]
    window: tuple[float, float]
    centre_mm: np.ndarray
    detail_mm: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, columns: Mapping[str, Picture]) -> Scene:
        """Chosen by the first image alone."""
        first = next(iter(columns.values()))
        window = grey_window(first.voxels)
        centre = foreground_centre_mm(first.voxels, first.spacing_mm, window)
        low, high = close_up_mm(first.end_mm - first.start_mm, centre, DETAIL_SHARE_OF_VIEW)
        return cls(columns, window, centre + first.start_mm, (low + first.start_mm, high + first.start_mm))

    @property
    def first(self) -> Picture:
        return next(iter(self.columns.values()))

    @property
    def everything_mm(self) -> tuple[np.ndarray, np.ndarray]:
        return self.first.start_mm, self.first.end_mm


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


def _letter(axes: Axes, plane: Plane) -> None:
    from matplotlib import patheffects

    edges = [(0.0, 0.5, "left", "center"), (1.0, 0.5, "right", "center")]
    edges += [(0.5, 0.0, "center", "bottom"), (0.5, 1.0, "center", "top")]
    outline = [patheffects.withStroke(linewidth=1.5, foreground=BACKGROUND)]
    for letter, (x, y, horizontal, vertical) in zip(plane.letters, edges, strict=True):
        offset = (3 if x == 0 else -3 if x == 1 else 0, 2 if y == 0 else -2 if y == 1 else 0)
        axes.annotate(
            letter,
            (x, y),
            xytext=offset,
            xycoords="axes fraction",
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            color=TEXT,
            fontsize=8,
            weight="bold",
            path_effects=outline,
        )


def _show(
    axes: Axes,
    picture: Picture,
    plane: Plane,
    scene: Scene,
    view_mm: tuple[np.ndarray, np.ndarray],
    frame: str,
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
    axes.set_xlim(-high[across], -low[across])
    axes.set_ylim(low[up], high[up])
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(BACKGROUND)
    for spine in axes.spines.values():
        spine.set(edgecolor=frame, linewidth=0.8)


class _Sheet:
    """The figure's layout in pixels: every column holds an overview and, to its right, a detail; rows are planes."""

    def __init__(self, scene: Scene, has_title: bool) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        count, self.planes = len(scene.columns), scene.first.planes
        room = (FIGURE_WIDTH_PX - 2 * MARGIN_PX - (count - 1) * COLUMN_GAP_PX) / count
        self.column_px = min(max(room, NARROWEST_COLUMN_PX), WIDEST_COLUMN_PX)
        overview_mm, side_mm = (high - low for low, high in (scene.everything_mm, scene.detail_mm))
        overview_px = OVERVIEW_SHARE * self.column_px
        detail_px = self.column_px - overview_px - GAP_PX
        self.sizes_px = (overview_mm * overview_px / overview_mm.max(), side_mm * detail_px / side_mm.max())
        self.boxes_px = (overview_px, detail_px)
        self.rows_px = [max(size[plane.up] for size in self.sizes_px) for plane in self.planes]
        self.top_px = HEAD_PX + (TITLE_PX if has_title else 0)
        self.width = 2 * MARGIN_PX + count * self.column_px + (count - 1) * COLUMN_GAP_PX
        self.height = self.top_px + sum(self.rows_px) + (len(self.planes) - 1) * GAP_PX + FOOT_PX
        self.figure: Figure = Figure((self.width / DPI, self.height / DPI), dpi=DPI, facecolor=BACKGROUND)
        FigureCanvasAgg(self.figure)

    def left_px(self, column: int) -> float:
        return MARGIN_PX + column * (self.column_px + COLUMN_GAP_PX)

    def middle_px(self, row: int) -> float:
        """Middle of a row, from the top."""
        return self.top_px + sum(self.rows_px[:row]) + row * GAP_PX + self.rows_px[row] / 2

    def text(self, x_px: float, y_px: float, text: str, size: float, color: str, **style: Any) -> None:
        at = (x_px / self.width, 1 - y_px / self.height)
        self.figure.text(*at, text, fontsize=size, color=color, parse_math=False, va="center", **style)

    def panel(self, row: int, column: int, detail: bool) -> Axes:
        plane = self.planes[row]
        size = self.sizes_px[detail]
        width, height = size[plane.across], size[plane.up]
        box_left = self.left_px(column) + (self.boxes_px[0] + GAP_PX if detail else 0)
        left = box_left + (self.boxes_px[detail] - width) / 2
        bottom = self.height - self.middle_px(row) - height / 2
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))


def _draw(columns: Mapping[str, Picture], title: str | None) -> Figure:
    from matplotlib.patches import Rectangle

    scene = Scene.of(columns)
    low, high = scene.detail_mm
    sheet = _Sheet(scene, has_title=bool(title))
    if title:
        sheet.text(MARGIN_PX, TITLE_PX * 0.65, title, 11, TEXT, weight="bold")
    for row, plane in enumerate(sheet.planes):
        sheet.text(MARGIN_PX / 2, sheet.middle_px(row), plane.name, 8, FAINT, rotation=90, ha="center")
        for index, picture in enumerate(columns.values()):
            overview = sheet.panel(row, index, detail=False)
            _show(overview, picture, plane, scene, scene.everything_mm, BACKGROUND)
            _letter(overview, plane)
            sides = (high - low)[[plane.across, plane.up]]
            corner = (-high[plane.across], low[plane.up])
            overview.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=ACCENT, linewidth=0.8))
            _show(sheet.panel(row, index, detail=True), picture, plane, scene, scene.detail_mm, ACCENT)
    for index, (name, picture) in enumerate(columns.items()):
        left, grid = sheet.left_px(index), " × ".join(map(str, picture.voxels.shape))
        spacing = " × ".join(f"{mm:.2f}" for mm in picture.spacing_mm)
        sheet.text(left, sheet.top_px - 32, name, 10, TEXT, weight="bold")
        sheet.text(left, sheet.top_px - 14, f"{grid} voxels of {spacing} mm", 8, FAINT)
    note = (
        f"Same planes and same grey window ({scene.window[0]:.4g} to {scene.window[1]:.4g}) for all. Boxes: detail, "
        f"{(high - low).max():.0f} mm wide, voxels shown as they are."
    )
    sheet.text(MARGIN_PX, sheet.height - FOOT_PX / 2, note, 7.5, FAINT)
    return sheet.figure


def _write(figure: Figure, path: Path) -> None:
    try:
        with replacing(path, ".png") as temporary:
            figure.savefig(temporary, format="png", dpi=DPI, facecolor=BACKGROUND)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


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
    _write(_draw(_columns(images, spacing_mm), title), path)
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
    import torch

    from medsr_monai.geometry import cubic_bspline, reorient
    from medsr_monai.volumes import read_volume

    images, spacing = {}, {}
    for name, file in {"input": lr_path, "sr": sr_path}.items():
        volume = read_volume(file)
        grid, orientation = volume.grid.canonical()
        data = volume.data if volume.data.ndim == 3 else volume.data[..., 0]
        images[name], spacing[name] = reorient(data, orientation).copy(), grid.spacing_mm
    cubic = cubic_bspline(torch.from_numpy(images["input"])[None, None], images["sr"].shape)[0, 0].numpy()
    columns = {"input": images["input"], "cubic B-spline": cubic, "super-resolution": images["sr"]}
    return save_three_planes(
        path, columns, {"input": spacing["input"], "cubic B-spline": spacing["sr"], "super-resolution": spacing["sr"]}
    )
