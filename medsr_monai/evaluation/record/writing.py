"""The files that an evaluation leaves for people and programs to read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsr_monai.evaluation.record.results import HR, Result
from medsr_monai.metrics.catalogue import Measure, band_frequencies
from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import write_json

FORMAT, VERSION = "medsr-evaluation", 1
COSTS = ("seconds", "peak_mib")
KEYS = ("case", "subject", "degradation", "noise", "condition", "method")
SHOWN = ("psnr", "ssim", "ms_ssim", "haarpsi", "gradient_distance", "spectrum_distance", "perceptual_distance", "niqe")


def row_of(result: Result) -> dict[str, Any]:
    """A result as one flat row."""
    head = {key: getattr(result, key) for key in KEYS}
    return {**head, **result.figures, "seconds": result.seconds, "peak_mib": result.peak_mib}


def write_text(text: str, path: Path) -> None:
    """Write a text completely or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from error


def csv_text(comments: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Lines that begin with ``# ``, a header, and rows; None is an empty cell."""
    buffer = io.StringIO()
    buffer.writelines(f"# {line}\n" for line in comments)
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def unit_lines(measures: Mapping[str, Measure]) -> list[str]:
    """One line for each measure: name, unit, direction, definition."""
    return [
        f"{m.name}: {m.label}{f' ({m.unit})' if m.unit else ''}, "
        f"{'best at zero' if m.better == 'zero' else m.better + ' is better'}: {m.definition}"
        for m in measures.values()
    ]


def write_cases(
    folder: Path, head: Mapping[str, Any], measures: Mapping[str, Measure], results: Sequence[Result]
) -> None:
    """Write cases.json and cases.csv."""
    rows = [row_of(result) for result in results]
    described = {
        m.name: {"label": m.label, "unit": m.unit, "better": m.better, "definition": m.definition}
        for m in measures.values()
    }
    content = {"format": FORMAT, "version": VERSION, **head, "measures": described, "rows": rows}
    write_json(content, folder / "cases.json")
    write_text(csv_text([*head["conventions"], *unit_lines(measures)], rows), folder / "cases.csv")


def write_summary(
    folder: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], sets: Sequence[Any]
) -> None:
    """Write summary.json and summary.csv."""
    write_json({**head, "rows": rows, "sets": sets}, folder / "summary.json")
    comments = [f"{key}: {value}" for key, value in head.items()]
    comments += [
        f"{s['condition']}, {s['method']}: {s['measure']} {s['value']}, n {s['n']}, {s['features']}" for s in sets
    ]
    write_text(csv_text(comments, rows), folder / "summary.csv")


def write_spectra(folder: Path, results: Sequence[Result]) -> None:
    """Write spectra.json: a row for each result, and one for the reference of each case and condition."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for result in results:
        for image, power in ((HR, result.hr_power_db), (result.method, result.power_db)):
            key = (result.case, result.condition, image)
            rows[key] = dict(zip(("case", "condition", "image"), key, strict=True), power_db=power)
    write_json({"frequency": band_frequencies(), "rows": list(rows.values())}, folder / "spectra.json")


def _digits(measure: str) -> str:
    return {"psnr": ".2f", "spectrum_distance": ".2f", "niqe": ".2f"}.get(measure, ".3f")


def _cell(row: Mapping[str, Any], digits: str) -> str:
    if row["mean"] is None:
        return "–"
    interval = "" if row["low"] is None else f" [{row['low']:{digits}}, {row['high']:{digits}}]"
    return f"{row['mean']:{digits}}{interval}"


def markdown(
    rows: Sequence[Mapping[str, Any]],
    sets: Sequence[Mapping[str, Any]],
    measures: Mapping[str, Measure],
    notes: Sequence[str],
) -> str:
    """A table for each condition, one row a method, with what the figures mean below."""
    found = {(row["condition"], row["method"], row["measure"]): row for row in rows}
    distances = {(entry["condition"], entry["method"]): entry for entry in sets}
    shown = [measures[name] for name in SHOWN if name in measures]
    lines = []
    for condition in dict.fromkeys(row["condition"] for row in rows):
        titles = ["method", *(m.label + (f" ({m.unit})" if m.unit else "") for m in shown)]
        titles += ["Fréchet"] if sets else []
        lines += [
            f"## {condition}",
            "",
            _line([*titles, "PSNR gain (dB)", "max |A(SR) - LR| (P99.5)", "seconds", "MiB"]),
        ]
        lines.append(_line(["---"] * (len(titles) + 4)))
        for method in dict.fromkeys(row["method"] for row in rows if row["condition"] == condition):
            cells = [method, *(_cell(found[condition, method, m.name], _digits(m.name)) for m in shown)]
            if sets:
                value = distances[condition, method]["value"]
                cells.append("–" if value is None else f"{value:.4g}")
            lines.append(_line([*cells, *_last_cells(found, condition, method)]))
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def _last_cells(found: Mapping[tuple[str, str, str], Mapping[str, Any]], condition: str, method: str) -> list[str]:
    gain = found[condition, method, "psnr"]
    difference = {key: gain[f"difference{end}"] for key, end in (("mean", ""), ("low", "_low"), ("high", "_high"))}
    costs = {name: found[condition, method, name]["mean"] for name in ("consistency_max", *COSTS)}
    return [
        _cell(difference, "+.2f"),
        "–" if costs["consistency_max"] is None else f"{costs['consistency_max']:.0e}",
        f"{costs['seconds']:.2f}",
        "–" if costs["peak_mib"] is None else f"{costs['peak_mib']:.0f}",
    ]


def _line(cells: Sequence[str]) -> str:
    # A bar inside a cell would end it.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
