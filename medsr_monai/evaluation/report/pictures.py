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
from medsr_monai.evaluation.record.tables import EvaluationRun
from medsr_monai.evaluation.record.views import View
from medsr_monai.geometry.planes import Plane, close_up_mm, foreground_centre_mm, grey_levels
from medsr_monai.system.errors import InputError

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
class Album:
    """All pictures of a report under one encoding, and what that changed in grey levels of 255."""

    encoding: Encoding
    error_limit: float
    cases: list[dict[str, Any]] = field(default_factory=list)
    letters: int = 0
    is_shrunk: bool = False
    is_thinned: bool = False
    squares: float = 0.0
    pixels: int = 0
    most: int = 0

    @property
    def rms(self) -> float:
        """Root mean square of the loss."""
        return (self.squares / max(self.pixels, 1)) ** 0.5

    def encode(self, grey: np.ndarray) -> str:
        """A data URI of grey levels (rows, columns) uint8."""
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "WebP", quality=self.encoding.quality)
        loss = grey.astype(np.int32) - np.asarray(Image.open(file).convert("L"))
        self.squares += float((loss**2).sum())
        self.pixels += loss.size
        self.most = max(self.most, int(np.abs(loss).max()))
        uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
        self.letters += len(uri)
        return uri

    def shrunk(self, grey: np.ndarray) -> np.ndarray:
        """Grey levels with no side longer than the encoding's, averaged."""
        factor = self.encoding.side / max(grey.shape)
        if factor >= 1:
            return grey
        self.is_shrunk = True
        rows, columns = (max(1, round(n * factor)) for n in grey.shape)
        return np.asarray(Image.fromarray(grey).resize((columns, rows), Image.Resampling.BOX))


def _ordered(run: EvaluationRun, view: View) -> list[tuple[str, str]]:
    """Images from the input over the methods to HR, with their labels."""
    methods = [(name, method.label) for name, method in run.table.methods.items() if name in view.stacks]
    return [(LR, "input (LR)"), *methods, (HR, "HR, the truth")]


def _plane_row(run: EvaluationRun, view: View, plane: Plane, album: Album) -> dict[str, Any]:
    """All images through one plane, sizes in mm; the box (left, top, width, height) is magnified.

    The box lies around the middle of HR's foreground and is chosen without looking at any method.
    """
    hr, pixel = view.cut(HR, plane), view.pixel_mm(HR, plane)
    centre = foreground_centre_mm(hr, pixel, view.window)
    low, high = close_up_mm(np.array(hr.shape) * pixel, centre, DETAIL_SHARE)
    panels = []
    for image, label in _ordered(run, view):
        picture = view.cut(image, plane)
        error = None
        if image in run.table.methods:
            error = album.encode(album.shrunk(grey_levels(np.abs(picture - hr), (0.0, album.error_limit))))
        grey = album.encode(album.shrunk(grey_levels(picture, view.window)))
        size = view.size_mm(image, picture, plane)
        panels.append({"image": image, "label": label, "picture": grey, "size_mm": size, "error": error})
    box = [*low[::-1].tolist(), *(high - low)[::-1].tolist()]
    return {"plane": plane, "size_mm": view.size_mm(HR, hr, plane), "box_mm": box, "panels": panels}


def _stacks(run: EvaluationRun, view: View, album: Album) -> dict[str, Any]:
    count = len(view.stack_positions_mm)
    kept = np.unique(np.linspace(0, count - 1, min(count, album.encoding.slices)).round().astype(int))
    album.is_thinned |= len(kept) < count
    across = int(np.ceil(np.sqrt(len(kept))))
    down = -(-len(kept) // across)
    grid = {"across": across, "down": down}
    images = []
    for image, label in _ordered(run, view):
        stack = view.stacks[image]
        slices = [album.shrunk(stack[i]) for i in kept]
        slices += [np.zeros_like(slices[0])] * (across * down - len(slices))
        tiles = np.block([slices[start : start + across] for start in range(0, len(slices), across)])
        size = dict(zip(("width_mm", "height_mm"), view.size_mm(image, stack, view.stack_plane), strict=True))
        images.append({"name": image, "label": label, "atlas": album.encode(tiles), **grid, **size})
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
    """Encode all pictures of a run in the best quality that fits into so many letters; None where there are none.

    Raises:
        InputError: a damaged file, or pictures that do not fit however small.
    """
    paths = ResultFolder(run.folder).views()
    if not paths:
        return None
    error_limit = _error_limit(run, paths)
    for encoding in LADDER:
        album = Album(encoding, error_limit)
        for number, view in enumerate(_views(run, paths), start=1):
            rows = [_plane_row(run, view, plane, album) for plane in view.planes]
            stacks = _stacks(run, view, album)
            album.cases.append({"case": view.case, "condition": view.condition, "rows": rows, "stacks": stacks})
            if album.letters / number * len(paths) > letters:
                break
        else:
            return album
    raise InputError(
        f"{run.folder / 'views'}: {len(paths)} cases of pictures do not fit into a page; "
        "move some of the files out of this folder"
    )
