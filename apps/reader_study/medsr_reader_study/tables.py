"""An analysis as files and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medsr_monai.evaluation.numbers import MISSING, Format
from medsr_monai.evaluation.plan import HR
from medsr_monai.evaluation.record.text import csv_text
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import write_json, write_text

STATISTICS = {"weighted_kappa": "weighted kappa", "icc_2_1": "ICC(2,1)", "icc_2_k": "ICC(2,k)"}
FIGURE = Format(2, is_plain=True)


def write_analysis(analysis: Mapping[str, Any], file: str | Path) -> list[Path]:
    """Write the JSON file and, beside it, tables of methods, agreement, and unblinded ratings; returns the files.

    Args:
        analysis: see ``analyse_study``.
        file: ending in .json; the tables are ``<stem>_methods.csv``, ``_agreement.csv``, ``_repeatability.csv`` and
            ``_ratings.csv``.

    Raises:
        InputError: another suffix, or a place that cannot be written.
    """
    target = Path(file)
    if target.suffix.lower() != ".json":
        raise InputError(f"--out {file}: need a name that ends in .json; the tables get its stem")
    written = [write_json(analysis, target)]
    for name in ("methods", "agreement", "repeatability", "ratings"):
        table = csv_text(analysis["conventions"], analysis[name])
        written.append(write_text(table, target.with_name(f"{target.stem}_{name}.csv")))
    return written


def analysis_text(analysis: Mapping[str, Any]) -> str:
    """What ``medsr reader-study analyse`` prints."""
    return "\n".join(_lines(analysis))


def _lines(analysis: Mapping[str, Any]) -> Iterator[str]:
    readers = analysis["readers"]
    yield (
        f"study {analysis['study']}: {analysis['n_cases']} cases of {analysis['n_subjects']} subjects, "
        f"{len(readers)} reader{'s' * (len(readers) != 1)}, {analysis['n_ratings']} ratings"
    )
    width = max(len(_name(row["method"])) for row in analysis["methods"])
    for question in dict.fromkeys(row["question"] for row in analysis["methods"]):
        yield ""
        head = f"{'mean [95 %]':20}  {'- ' + analysis['reference'] + ' [95 %]':22}  {'p':>7}  {'p Holm':>7}"
        yield f"{question.replace('_', ' ')} (1 to 5)"
        yield f"  {'':{width}}  {head}"
        for row in analysis["methods"]:
            if row["question"] == question:
                yield f"  {_name(row['method']):{width}}  {_method(row)}".rstrip()
        for row in analysis["agreement"]:
            if row["question"] == question:
                figure = FIGURE.estimate(row["value"], row["low"], row["high"])
                yield f"  {STATISTICS[row['statistic']]:{width}}  {figure:20}  {row['note']}".rstrip()
        for row in analysis["repeatability"]:
            if row["question"] == question:
                yield f"  {_repeats(row)}"
    if analysis["statements"]:
        yield ""
        yield from (f"note: {statement}" for statement in analysis["statements"])


def _name(method: str) -> str:
    return "hr (hidden reference)" if method == HR else method


def _method(row: Mapping[str, Any]) -> str:
    mean = FIGURE.estimate(row["mean"], row["low"], row["high"])
    difference = FIGURE.estimate(row["difference"], row["difference_low"], row["difference_high"], sign=True)
    p, adjusted = (MISSING if value is None else f"{value:.2g}" for value in (row["p"], row["p_holm"]))
    return f"{mean:20}  {difference:22}  {p:>7}  {adjusted:>7}  {row['note']}"


def _repeats(row: Mapping[str, Any]) -> str:
    start = f"reader {row['reader']} repeats: "
    if not row["n_repeats"]:
        return start + row["note"]
    kappa = FIGURE(row["weighted_kappa"])
    note = f" ({row['note']})" if row["note"] else ""
    return f"{start}kappa {kappa}, same answer in {row['same']:.0%} of {row['n_repeats']}{note}"
