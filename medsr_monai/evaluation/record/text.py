"""A record as text: CSV for spreadsheets, the Markdown table that is printed, and what the figures mean."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from medsr_monai.evaluation.numbers import MISSING, Format
from medsr_monai.evaluation.plan import Plan
from medsr_monai.evaluation.record.rows import Estimate, Result, SetDistance
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


_plain = partial(Format, is_plain=True)


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
            cells = [method]
            for e in (found[measure.name] for measure in shown):
                cells.append(_plain(2 if e.measure in TWO_DECIMALS else 3).estimate(e.mean, e.low, e.high))
            if sets:
                value = distances[condition, method]
                cells.append(MISSING if value is None else f"{value:.4g}")
            gain, residual = found["psnr"], found["consistency_max"].mean
            cells.append(_plain(2).estimate(gain.difference, gain.difference_low, gain.difference_high, sign=True))
            cells.append(MISSING if residual is None else f"{residual:.0e}")
            lines.append(_line([*cells, _plain(2)(found["seconds"].mean), _plain(0)(found["peak_mib"].mean)]))
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    # A bar inside a cell would end it.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def conventions(plan: Plan, results: Sequence[Result]) -> list[str]:
    """The lines of the header of cases.csv and cases.json."""
    masked = any(case.mask is not None for case in plan.cases)
    foreground = "foreground of hr: brighter than 0.05 P99.5, dilated twice, without voxels that are exactly 0"
    return [
        "P99.5 is the 99.5th percentile of the nonzero voxels of hr; all images are divided by it, data range 1, no "
        "clipping",
        f"mask: {'the given mask files, above 0' if masked else foreground}",
        f"degradation: simulated acquisition at 1/{' x 1/'.join(map(str, plan.scale))} of the resolution, then "
        f"Rician noise, standard deviation as a share of the intensity window, drawn for each case by "
        f"its name and seed {plan.seed}",
        f"projections and back-projection assume: {plan.assumed_profile or 'the simulated one'}; consistency is "
        "measured with the simulated one, noise included",
        f"ms_ssim: {plan.ms_ssim_scales} scales, as many as the smallest image holds",
        "seconds: wall clock of the method alone, images in memory, interpolations in one thread; "
        f"{plan.device} and {plan.workers} processes at once",
        "peak_mib: growth of resident memory while the method ran (on a GPU: of PyTorch's), MiB, without the weights",
        "no feature network was given: no perceptual and no Fréchet distance"
        if plan.features is None
        else f"perceptual and Fréchet distance: features of {plan.features}; figures of other networks do not compare",
        *_reasons(results),
    ]


def _reasons(results: Sequence[Result]) -> list[str]:
    counts = Counter((name, reason) for result in results for name, reason in result.reasons.items())
    return [f"{name}: empty for {count} result(s): {reason}" for (name, reason), count in counts.items()]


def notes(plan: Plan, results: Sequence[Result]) -> list[str]:
    """What stands below the printed table."""
    subjects = len({result.subject for result in results})
    if subjects < 2:
        between = "one subject: no intervals, which would need two or more"
    else:
        drawn = f"{plan.resamples} resamples of subjects"
        between = f"means over {subjects} subjects with 95 % bootstrap intervals ({drawn})"
    return [
        f"{between}; gains are paired differences to {plan.baseline}",
        f"MS-SSIM on {plan.ms_ssim_scales} scales"
        if plan.ms_ssim_scales > 1
        else "MS-SSIM: images too small for two scales",
        "low |A(SR) - LR| is necessary, not sufficient: what was not measured may be invented",
        *_reasons(results),
    ]
