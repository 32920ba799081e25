"""The tables of an evaluation: summary with intervals, consistency, methods by condition, and the run's manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.evaluation.numbers import MISSING, Format
from medsr_monai.evaluation.plan import Condition, Method
from medsr_monai.evaluation.record.rows import Estimate
from medsr_monai.evaluation.record.tables import EvaluationRun
from medsr_monai.metrics.catalogue import Measure

CONSISTENCY = ("consistency_max", "consistency_rms")
SECONDS = Measure("seconds", "Time", "s", "lower", "mean time of one case")
PEAK = Measure("peak_mib", "Memory", "MiB", "lower", "largest memory of one case")
PATH = re.compile(r"^(?:[~/\\]|\.\.?[/\\]|[A-Za-z]:[\\/])|^\S*[/\\]\S*$")
HIDDEN_PATH = "a path, not shown"
PATIENTS = ("cases", "file", "files", "subject", "subjects")  # keys whose values may name a patient


@dataclass(frozen=True)
class Cell:
    """One number of a table, with its interval, its difference to the baseline, and how both are judged."""

    text: str = MISSING
    interval: str = ""
    value: float | None = None
    is_best: bool = False
    difference: str = ""
    difference_interval: str = ""
    difference_value: float | None = None
    verdict: str = ""  # better or worse than the baseline, where the interval excludes zero
    shade: int | None = None  # 0 to 4, from worst to best of its column


@dataclass(frozen=True)
class Table:
    """Columns and, by method, their cells."""

    columns: list[Measure]
    rows: list[tuple[Method, list[Cell]]]
    n_cases: int
    n_subjects: int


def _merit(measure: Measure, value: float) -> float:
    """A number that is the higher, the better the value."""
    return {"higher": value, "lower": -value, "zero": -abs(value)}[measure.better]


def _verdict(measure: Measure, low: float | None, high: float | None) -> str:
    if low is None or high is None or measure.better == "zero" or low <= 0 <= high:
        return ""
    return "better" if (low > 0) == (measure.better == "higher") else "worse"


def _column(
    measure: Measure,
    methods: Iterable[str],
    found: Mapping[str, Estimate | float | None],
    baseline: str = "",
    write: Format | None = None,
) -> list[Cell]:
    """Cells of methods: estimates with intervals and differences to a baseline, or plain numbers."""
    means = {name: one.mean if isinstance(one, Estimate) else one for name, one in found.items()}
    write = write or Format.of(means.values(), measure.unit)
    merits = {name: _merit(measure, mean) for name, mean in means.items() if mean is not None}
    cells = dict.fromkeys(methods, Cell())
    for name in cells.keys() & merits.keys():
        is_best = len(merits) > 1 and merits[name] >= max(merits.values())
        cells[name] = Cell(write(means[name]), value=means[name], is_best=is_best)
        one = found[name]
        if isinstance(one, Estimate):
            difference = one.difference, one.difference_low, one.difference_high
            compared: dict[str, Any] = {
                "difference": write(difference[0], sign=True),
                "difference_interval": write.interval(*difference[1:], sign=True),
                "difference_value": difference[0],
                "verdict": _verdict(measure, *difference[1:]),
            }
            if name == baseline:
                compared = {"difference": "baseline", "difference_value": 0.0}
            cells[name] = replace(cells[name], interval=write.interval(one.low, one.high), **compared)
    return list(cells.values())


def _cost_columns(run: EvaluationRun, condition: Condition, methods: list[str]) -> Iterator[tuple[Measure, list]]:
    for measure, reduce in ((SECONDS, np.mean), (PEAK, np.max)):
        values: dict[str, list[float]] = {}
        for result in run.table.results:
            value = result.value(measure.name)
            if result.condition == condition and value is not None:
                values.setdefault(result.method, []).append(value)
        yield measure, _column(measure, methods, {name: float(reduce(numbers)) for name, numbers in values.items()})


def _set_columns(run: EvaluationRun, condition: Condition, methods: list[str]) -> Iterator[tuple[Measure, list]]:
    sets = [item for item in run.summary.sets if item.condition == condition]
    for name in dict.fromkeys(item.measure for item in sets):
        known = run.table.measures.get(name)
        texts = "; ".join(dict.fromkeys(f"{item.features} ({item.n} samples)" for item in sets))
        label = known.label if known else name.replace("_", " ").capitalize().replace("Frechet", "Fréchet")
        measure = Measure(name, label, known.unit if known else "", "lower", f"between sets of images: {texts}")
        by_method = {item.method: item.value for item in sets if item.measure == name}
        yield measure, _column(measure, methods, by_method)


def summary_table(run: EvaluationRun, condition: Condition) -> Table:
    """Means over subjects with intervals, distances between sets, time and memory; empty columns are left out."""
    here = [row for row in run.table.results if row.condition == condition]
    methods = [name for name in run.table.methods if name in {row.method for row in here}]
    columns = []
    for measure in run.table.measures.values():
        found = run.estimates(condition, measure)
        columns.append((measure, _column(measure, methods, found, run.table.baseline)))
    columns += [*_set_columns(run, condition, methods), *_cost_columns(run, condition, methods)]
    columns = [(measure, cells) for measure, cells in columns if any(cell.value is not None for cell in cells)]
    rows = [(run.table.methods[name], [cells[i] for _, cells in columns]) for i, name in enumerate(methods)]
    return Table([measure for measure, _ in columns], rows, len({r.case for r in here}), len({r.subject for r in here}))


def consistency_table(run: EvaluationRun, condition: Condition) -> Table | None:
    """Residuals of the measurement: mean over subjects, and the worst case in the interval's place."""
    whole = summary_table(run, condition)
    chosen = [(i, measure) for i, measure in enumerate(whole.columns) if measure.name in CONSISTENCY]
    if not chosen:
        return None
    rows = []
    for method, cells in whole.rows:
        here = [r.figures for r in run.table.results if (r.condition, r.method) == (condition, method.name)]
        shown = []
        for i, measure in chosen:
            values = [abs(value) for figures in here if (value := figures[measure.name]) is not None]
            worst = f"worst case {Format.of(values, measure.unit)(max(values))}" if values else ""
            shown.append(Cell(cells[i].text, worst, cells[i].value, cells[i].is_best))
        rows.append((method, shown))
    return Table([measure for _, measure in chosen], rows, whole.n_cases, whole.n_subjects)


def condition_matrix(run: EvaluationRun, measure: Measure) -> list[tuple[Method, list[Cell]]] | None:
    """Methods in rows, test conditions in columns; shaded within the measure. None where nothing was measured."""
    found = [run.estimates(condition, measure) for condition in run.table.conditions.values()]
    means = [one.mean for estimates in found for one in estimates.values() if one.mean is not None]
    if not means:
        return None
    write, methods = Format.of(means, measure.unit), run.table.methods
    merits = [_merit(measure, mean) for mean in means]
    low, span = min(merits), (max(merits) - min(merits)) or 1.0
    rows = zip(*(_column(measure, methods, estimates, write=write) for estimates in found), strict=True)

    def shaded(cell: Cell) -> Cell:
        return (
            cell if cell.value is None else replace(cell, shade=round(4 * (_merit(measure, cell.value) - low) / span))
        )

    return [(method, [shaded(cell) for cell in cells]) for method, cells in zip(methods.values(), rows, strict=True)]


def _shown(value: Any) -> str:
    """A leaf of the manifest. Paths are not shown: folders are often named after patients."""
    if isinstance(value, str):
        return HIDDEN_PATH if PATH.search(value) else value
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: MISSING}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def manifest_rows(manifest: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Settings, versions and digests: the manifest's leaves by their dotted names."""
    for key, value in manifest.items():
        # A file's name says which one it is; its folder may be a patient's.
        name = f"{above} › {Path(str(key)).name}" if above else str(key)
        if key in PATIENTS:
            yield name, f"{len(value)}, not listed" if isinstance(value, Sequence) and key[-1] == "s" else "not shown"
        elif isinstance(value, Mapping):
            yield from manifest_rows(value, name)
        elif isinstance(value, list):
            if all(not isinstance(item, Mapping | list) for item in value):
                yield name, ", ".join(map(_shown, value)) or MISSING
            else:
                parts = [item if isinstance(item, Mapping) else {"": item} for item in value]
                yield name, "; ".join(" ".join(f"{k} {v}," for k, v in manifest_rows(part))[:-1] for part in parts)
        else:
            yield name, _shown(value)
