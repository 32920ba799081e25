"""The pictures of a report: planes, error maps and stacks as small WebP files inside the page, their loss measured."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medsr_monai.evaluation.plan import HR, LR
from medsr_monai.evaluation.record.folder import ResultFolder
from medsr_monai.evaluation.record.run import EvaluationRun
from medsr_monai.evaluation.record.views import View
from medsr_monai.geometry.planes import Plane, close_up_mm, foreground_centre_mm, grey_levels
from medsr_monai.system.errors import InputError

# Base64 writes three bytes as four letters.
LETTERS_PER_BYTE = 4 / 3
ERROR_LIMIT_PERCENTILE = 98
DETAIL_SHARE = 0.34


@dataclass(frozen=True)
class Encoding:
    """How pictures are made small: WebP quality, longest side in pixels, slices of a stack."""

    quality: int
    side: int
    slices: int


# From the best to the smallest; the first that fits into the page's size is taken. Slices are given up before quality:
# what is compared is fine texture, and strong compression takes just that.
LADDER = (
    Encoding(92, 640, 32),
    Encoding(85, 640, 32),
    Encoding(80, 512, 24),
    Encoding(80, 512, 18),
    Encoding(80, 512, 12),
    Encoding(75, 384, 12),
    Encoding(70, 384, 9),
    Encoding(60, 320, 8),
    Encoding(50, 256, 8),
    Encoding(40, 192, 6),
    Encoding(30, 128, 6),
)


@dataclass
class Loss:
    """What encoding changed, in grey levels of 255."""

    squares: float = 0.0
    pixels: int = 0
    most: int = 0

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        difference = before.astype(np.int32) - after
        self.squares += float((difference**2).sum())
        self.pixels += difference.size
        self.most = max(self.most, int(np.abs(difference).max()))

    @property
    def rms(self) -> float:
        return (self.squares / self.pixels) ** 0.5 if self.pixels else 0.0


@dataclass(frozen=True)
class Panel:
    """One image through one plane: pictures as data URIs, sizes in mm."""

    image: str
    label: str
    picture: str
    size_mm: tuple[float, float]
    error: str | None


@dataclass(frozen=True)
class PlaneRow:
    """All images through one plane, and the box (left, top, width, height) in mm that is magnified."""

    plane: Plane
    size_mm: tuple[float, float]
    box_mm: tuple[float, float, float, float]
    panels: list[Panel]


@dataclass(frozen=True)
class CasePictures:
    """The pictures of one case: the rows of planes, and the stacks for the browser's script."""

    case: str
    condition: str
    rows: list[PlaneRow]
    stacks: dict[str, Any]


@dataclass
class Album:
    """All pictures of a report under one encoding."""

    encoding: Encoding
    error_limit: float
    loss: Loss = field(default_factory=Loss)
    cases: list[CasePictures] = field(default_factory=list)
    letters: int = 0
    is_shrunk: bool = False
    is_thinned: bool = False

    def encode(self, grey: np.ndarray) -> str:
        """A data URI of grey levels (rows, columns) uint8."""
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "WebP", quality=self.encoding.quality)
        self.loss.add(grey, np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("L")))
        uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
        self.letters += len(uri)
        return uri

    def shrunk(self, grey: np.ndarray) -> np.ndarray:
        """Grey levels with no side longer than the encoding's, averaged."""
        longest = max(grey.shape)
        if longest <= self.encoding.side:
            return grey
        self.is_shrunk = True
        factor = self.encoding.side / longest
        size = [max(1, round(n * factor)) for n in grey.shape]
        return np.asarray(Image.fromarray(grey).resize((size[1], size[0]), Image.Resampling.BOX))


class _TooLargeError(Exception):
    """The pictures do not fit under this encoding."""


def _detail_box(view: View, plane: Plane) -> tuple[float, float, float, float]:
    """A box around the middle of HR's foreground, chosen without looking at any method; in mm from the top left."""
    hr, pixel = view.cut(HR, plane), view.pixel_mm(HR, plane)
    centre = foreground_centre_mm(hr, pixel, view.window)
    (top, left), (bottom, right) = close_up_mm(np.array(hr.shape) * pixel, centre, DETAIL_SHARE)
    return float(left), float(top), float(right - left), float(bottom - top)


def _ordered(run: EvaluationRun, view: View) -> list[tuple[str, str]]:
    """Images from the input over the methods to HR, with their labels."""
    methods = [(name, method.label) for name, method in run.table.methods.items() if name in view.stacks]
    return [(LR, "input (LR)"), *methods, (HR, "HR, the truth")]


def _plane_row(run: EvaluationRun, view: View, plane: Plane, album: Album) -> PlaneRow:
    hr = view.cut(HR, plane)
    panels = []
    for image, label in _ordered(run, view):
        picture = view.cut(image, plane)
        error = None
        if image in run.table.methods:
            error = album.encode(album.shrunk(grey_levels(np.abs(picture - hr), (0.0, album.error_limit))))
        grey = album.encode(album.shrunk(grey_levels(picture, view.window)))
        panels.append(Panel(image, label, grey, view.size_mm(image, picture, plane), error))
    return PlaneRow(plane, view.size_mm(HR, hr, plane), _detail_box(view, plane), panels)


def _atlas(slices: list[np.ndarray]) -> tuple[np.ndarray, int]:
    """Slices (rows, columns) tiled into one picture from left to right; the picture, and tiles in a row."""
    across = int(np.ceil(np.sqrt(len(slices))))
    down = -(-len(slices) // across)
    rows, columns = slices[0].shape
    tiles = np.zeros((down * rows, across * columns), np.uint8)
    for index, grey in enumerate(slices):
        top, left = index // across * rows, index % across * columns
        tiles[top : top + rows, left : left + columns] = grey
    return tiles, across


def _stacks(run: EvaluationRun, view: View, album: Album) -> dict[str, Any]:
    count = len(view.stack_positions_mm)
    kept = np.unique(np.linspace(0, count - 1, min(count, album.encoding.slices)).round().astype(int))
    album.is_thinned |= len(kept) < count
    images = []
    for image, label in _ordered(run, view):
        stack = view.stacks[image]
        tiles, across = _atlas([album.shrunk(stack[i]) for i in kept])
        width_mm, height_mm = view.size_mm(image, stack, view.stack_plane)
        images.append(
            {
                "name": image,
                "label": label,
                "atlas": album.encode(tiles),
                "across": across,
                "down": -(-len(kept) // across),
                "width_mm": width_mm,
                "height_mm": height_mm,
            }
        )
    return {
        "case": view.case,
        "plane": view.stack_plane.name,
        "letters": view.stack_plane.letters,
        "positions_mm": [round(view.stack_positions_mm[i], 2) for i in kept],
        "images": images,
    }


def _views(run: EvaluationRun, paths: list[Path]) -> Iterator[View]:
    for path in paths:
        view = View.read(path)
        if view.case not in run.table.subjects or view.condition not in run.table.conditions:
            raise InputError(f"{path}: pictures of '{view.case}', {view.condition}, which cases.json does not hold")
        yield view


def _error_limit(run: EvaluationRun, paths: list[Path]) -> float:
    """The end of the error maps' one colour scale: a round number near the largest errors of all methods."""
    limit = 0.0
    for view in _views(run, paths):
        for plane in view.planes:
            hr = view.cut(HR, plane)
            for image in set(view.stacks) & set(run.table.methods):
                error = np.nan_to_num(np.abs(view.cut(image, plane) - hr))
                limit = max(limit, float(np.percentile(error, ERROR_LIMIT_PERCENTILE)))
    return min((step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5) if step >= limit), default=1.0)


def make_album(run: EvaluationRun, letters: int) -> Album | None:
    """Encode all pictures of a run in the best quality that fits.

    Args:
        run: the evaluation.
        letters: how long the pictures may be together, as they stand in the page.

    Returns:
        The album; None where the run kept no pictures.

    Raises:
        InputError: a damaged file, or pictures that do not fit however small.
    """
    paths = ResultFolder(run.folder).views()
    if not paths:
        return None
    error_limit = _error_limit(run, paths)
    for encoding in LADDER:
        album = Album(encoding, error_limit)
        try:
            for number, view in enumerate(_views(run, paths), start=1):
                rows = [_plane_row(run, view, plane, album) for plane in view.planes]
                album.cases.append(CasePictures(view.case, view.condition, rows, _stacks(run, view, album)))
                if album.letters / number * len(paths) > letters:
                    raise _TooLargeError
        except _TooLargeError:
            continue
        return album
    raise InputError(
        f"{run.folder / 'views'}: {len(paths)} cases of pictures do not fit into a page; "
        "move some of the files out of this folder"
    )
