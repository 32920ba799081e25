"""Means over subjects with bootstrap intervals, and paired differences to the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from medsr_monai.evaluation.record.results import Result

CONFIDENCE = 0.95


def bootstrap_interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float | None, float | None]:
    """Percentile interval of the mean, drawing subjects with replacement.

    Args:
        values: (subjects,).
        resamples: how often to draw.
        seed: of the draws; the same one for all measures draws the same subjects.

    Returns:
        Lower and upper end; None both for fewer than two subjects, which do not tell how subjects differ.
    """
    if len(values) < 2:
        return None, None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def subject_means(results: Sequence[Result], measure: str) -> dict[str, float]:
    """The mean over each subject's cases, of those that have the figure."""
    values: dict[str, list[float]] = {}
    for result in results:
        value = value_of(result, measure)
        if value is not None:
            values.setdefault(result.subject, []).append(value)
    return {subject: float(np.mean(found)) for subject, found in sorted(values.items())}


def value_of(result: Result, measure: str) -> float | None:
    """A figure, or what the method took."""
    return {"seconds": result.seconds, "peak_mib": result.peak_mib}.get(measure, result.figures.get(measure))


def summarise(
    results: Sequence[Result], measures: Sequence[str], baseline: str, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """One row for each condition, method and measure, in the order of the results.

    Args:
        results: of all cases.
        measures: names of figures, ``seconds`` and ``peak_mib``.
        baseline: method that differences are taken to, of the same condition.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Mean over subjects with its interval, and the mean difference, method less baseline, paired by subject.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.condition, result.method), []).append(result)
    rows = []
    for (condition, method), group in groups.items():
        theirs = groups.get((condition, baseline), [])
        for measure in measures:
            head = {
                "condition": condition,
                "degradation": group[0].degradation,
                "noise": group[0].noise,
                "method": method,
                "measure": measure,
                "n_cases": sum(value_of(result, measure) is not None for result in group),
            }
            means, reference = subject_means(group, measure), subject_means(theirs, measure)
            rows.append({**head, **_intervals(means, reference, resamples, seed)})
    return rows


def _intervals(means: dict[str, float], reference: dict[str, float], resamples: int, seed: int) -> dict[str, Any]:
    values = np.array(list(means.values()))
    paired = np.array([means[subject] - reference[subject] for subject in means if subject in reference])
    low, high = bootstrap_interval(values, resamples, seed)
    difference_low, difference_high = bootstrap_interval(paired, resamples, seed)
    return {
        "n_subjects": len(values),
        "mean": float(values.mean()) if len(values) else None,
        "low": low,
        "high": high,
        "difference": float(paired.mean()) if len(paired) else None,
        "difference_low": difference_low,
        "difference_high": difference_high,
    }
