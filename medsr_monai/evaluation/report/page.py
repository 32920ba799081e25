"""The page of an evaluation: one HTML file that needs nothing else, from the folder that ``medsr evaluate`` wrote."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps

from medsr_monai.evaluation.plan import Condition
from medsr_monai.evaluation.record.manifest import ending_of
from medsr_monai.evaluation.record.tables import EvaluationRun
from medsr_monai.evaluation.report import charts, tables
from medsr_monai.evaluation.report.pictures import Album, make_album
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import write_text
from medsr_monai.system.version import __version__

LARGEST_PAGE_BYTES = 15_000_000
LEAST_PICTURE_BYTES = 3_000_000  # what pictures get where thousands of cases fill the page with points
HEADLINES = ("psnr", "ssim", "perceptual_distance", "gradient_distribution")
MOST_HEADLINES = 3
COLOUR_STOPS = 17  # of the error maps, dark to bright, in the page's filter and its colour bar


def headlines(run: EvaluationRun, condition: Condition) -> list[dict[str, Any]]:
    """The best method of the measures that most readers ask for."""
    table = tables.summary_table(run, condition)
    found: dict[str, dict[str, Any]] = {}
    for method, cells in table.rows:
        for measure, cell in zip(table.columns, cells, strict=True):
            if cell.is_best:
                found.setdefault(measure.name, {"measure": measure, "method": method, "cell": cell})
    return [found[name] for name in HEADLINES if name in found][:MOST_HEADLINES]


def _of_condition(run: EvaluationRun, condition: Condition) -> dict[str, Any]:
    spectra = [charts.draw_spectra(run, condition, relative) for relative in (True, False)]
    return {
        "condition": condition,
        "table": tables.summary_table(run, condition),
        "headlines": headlines(run, condition),
        "plane": charts.draw_plane(run, condition),
        "perception": charts.perception_measure(run, condition),
        "boxes": [(measure, charts.draw_boxes(run, condition, measure)) for measure in run.table.measures.values()],
        "spectra": [chart for chart in spectra if chart is not None],
        "spectrum_images": list(charts.mean_spectra(run, condition)),
        "consistency": tables.consistency_table(run, condition),
    }


def _bundle(run: EvaluationRun) -> str:
    """Name and version of the bundle, where the manifest has them."""
    bundle = run.manifest.get("bundle")
    found = bundle if isinstance(bundle, Mapping) else {}
    return " ".join(str(found[key]) for key in ("name", "version") if key in found)


def _render(run: EvaluationRun, conditions: list[dict[str, Any]], album: Album | None, size_mb: str) -> str:
    environment = Environment(
        loader=PackageLoader("medsr_monai.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = lambda text: text[:1].upper() + text[1:]
    assert environment.loader is not None
    script, css = (environment.loader.get_source(environment, name)[0] for name in ("report.js", "report.css"))
    matrices = [(measure, tables.condition_matrix(run, measure)) for measure in run.table.measures.values()]
    return environment.get_template("report.html.j2").render(
        run=run,
        subjects=len(set(run.table.subjects.values())),
        conditions=conditions,
        album=album,
        stacks=[case["stacks"] for case in album.cases] if album else [],
        matrices=[(m, rows) for m, rows in matrices if rows] if len(run.table.conditions) > 1 else [],
        manifest=list(tables.manifest_rows(run.manifest)),
        bundle=_bundle(run),
        ending=ending_of(run.manifest),
        scale=" × ".join(f"{factor:g}" for factor in run.table.scale),
        invents=[m for m in run.table.methods.values() if m.perception is not None and m.perception > 0],
        colour=lambda image: charts.colour(run, image),
        colours=colormaps["inferno"](np.linspace(0, 1, COLOUR_STOPS))[:, :3].tolist(),
        missing=tables.Cell(),
        size_mb=size_mb,
        version=__version__,
        css=Markup(css),
        script=Markup(script),
        # The page's policy: what a file may have smuggled in does not run.
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of an evaluation: tables, charts and pictures in one HTML file that needs no network.

    Args:
        folder: what `medsr evaluate --out` wrote.
        out: the HTML file; by default ``report.html`` in the folder. An existing file is replaced at once.

    Returns:
        The file written, of at most 15 MB, where not the charts alone of very many cases and methods need more.

    Raises:
        InputError: the folder is not an evaluation's or is damaged, or the file cannot be written.
    """
    run = EvaluationRun.read(folder)
    path = Path(out) if out is not None else run.folder / "report.html"
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the HTML file to write")
    conditions = [_of_condition(run, condition) for condition in run.table.conditions.values()]
    bare = len(_render(run, conditions, None, "0.0").encode())
    frame = 3000 * (1 + len(run.table.subjects))  # what stands around the pictures
    frame += 1500 * len(run.table.subjects) * len(run.table.methods) * 3
    album = make_album(run, max(LARGEST_PAGE_BYTES - bare - frame, LEAST_PICTURE_BYTES))
    page = _render(run, conditions, album, "00.0")
    page = _render(run, conditions, album, f"{len(page.encode()) / 1e6:.1f}")
    return write_text(page, path)
