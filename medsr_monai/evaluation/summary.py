"""Means over subjects with bootstrap intervals, and paired differences to the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from medsr_monai.evaluation.record.rows import Estimate, Result
from medsr_monai.metrics.bootstrap import bootstrap_interval, draw_resampling


def subject_means(results: Sequence[Result], measure: str) -> dict[str, float]:
    """The mean over each subject's cases, of those that have the figure."""
    values: dict[str, list[float]] = {}
    for result in results:
        value = result.value(measure)
        if value is not None:
            values.setdefault(result.subject, []).append(value)
    return {subject: float(np.mean(found)) for subject, found in sorted(values.items())}


def summarise(
    results: Sequence[Result], measures: Sequence[str], baseline: str, resamples: int, seed: int
) -> dict[tuple[str, str, str], Estimate]:
    """An estimate for each condition, method and measure, in the order of the results.

    Measures are figures, ``seconds`` and ``peak_mib``; all of them draw the same subjects.

    Returns:
        Mean over subjects with its interval, and the mean difference, method less baseline, paired by subject.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.condition.name, result.method), []).append(result)
    resampling = cache(lambda units: draw_resampling(units, resamples, seed))
    found = []
    for (condition, method), group in groups.items():
        for measure in measures:
            means = subject_means(group, measure)
            reference = subject_means(groups.get((condition, baseline), []), measure)
            estimate = Estimate(
                condition=group[0].condition,
                method=method,
                measure=measure,
                n_cases=sum(result.value(measure) is not None for result in group),
                n_subjects=len(means),
                **_intervals(means, reference, resampling),
            )
            found.append(estimate)
    return {estimate.key: estimate for estimate in found}


def _intervals(
    means: Mapping[str, float], reference: Mapping[str, float], resampling: Callable[[int], np.ndarray]
) -> dict[str, float | None]:
    values = np.array(list(means.values()))
    paired = np.array([means[subject] - reference[subject] for subject in means if subject in reference])
    ends = [bootstrap_interval(v, resampling(len(v))) if len(v) > 1 else (None, None) for v in (values, paired)]
    (low, high), (difference_low, difference_high) = ends
    return {
        "mean": float(values.mean()) if len(values) else None,
        "low": low,
        "high": high,
        "difference": float(paired.mean()) if len(paired) else None,
        "difference_low": difference_low,
        "difference_high": difference_high,
    }
