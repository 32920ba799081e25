"""A record as text: CSV for spreadsheets, and the Markdown table that is printed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from medsr_monai.evaluation.numbers import MISSING, Format
from medsr_monai.evaluation.record.rows import Estimate, SetDistance
from medsr_monai.metrics.catalogue import Measure

SHOWN = ("psnr", "ssim", "ms_ssim", "haarpsi", "gradient_distance", "spectrum_distance", "perceptual_distance", "niqe")
TWO_DECIMALS = ("psnr", "spectrum_distance", "niqe")


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
        f"{m.name}: {m.heading}, {'best at zero' if m.better == 'zero' else m.better + ' is better'}: {m.definition}"
        for m in measures.values()
    ]


def markdown(
    estimates: Mapping[tuple[str, str, str], Estimate],
    sets: Sequence[SetDistance],
    measures: Mapping[str, Measure],
    notes: Sequence[str],
) -> str:
    """A table for each condition, one row a method, with what the figures mean below."""
    distances = {(distance.condition.name, distance.method): distance.value for distance in sets}
    shown = [measures[name] for name in SHOWN if name in measures]
    titles = ["method", *(measure.heading for measure in shown), *(["Fréchet"] if sets else [])]
    titles += ["PSNR gain (dB)", "max |A(SR) - LR| (P99.5)", "seconds", "MiB"]
    lines = []
    for condition in dict.fromkeys(condition for condition, _, _ in estimates):
        lines += [f"## {condition}", "", _line(titles), _line(["---"] * len(titles))]
        for method in dict.fromkeys(method for where, method, _ in estimates if where == condition):
            found = {e.measure: e for (c, m, _), e in estimates.items() if (c, m) == (condition, method)}
            cells = [method, *(_mean(found[measure.name]) for measure in shown)]
            if sets:
                value = distances[condition, method]
                cells.append(MISSING if value is None else f"{value:.4g}")
            lines.append(_line([*cells, *_last_cells(found)]))
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def _mean(e: Estimate) -> str:
    return Format(2 if e.measure in TWO_DECIMALS else 3, is_plain=True).estimate(e.mean, e.low, e.high)


def _last_cells(found: Mapping[str, Estimate]) -> list[str]:
    gain, residual = found["psnr"], found["consistency_max"].mean
    return [
        Format(2, is_plain=True).estimate(gain.difference, gain.difference_low, gain.difference_high, sign=True),
        MISSING if residual is None else f"{residual:.0e}",
        Format(2, is_plain=True)(found["seconds"].mean),
        Format(0, is_plain=True)(found["peak_mib"].mean),
    ]


def _line(cells: Sequence[str]) -> str:
    # A bar inside a cell would end it.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
