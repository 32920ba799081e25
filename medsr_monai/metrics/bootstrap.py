"""Bootstrap intervals: how far a figure would differ with other subjects."""

from __future__ import annotations

import numpy as np

CONFIDENCE = 0.95


def draw_resampling(units: int, resamples: int, seed: int) -> np.ndarray:
    """How often each unit is drawn in each resample, with replacement.

    Args:
        units: how many there are: subjects, or cases.
        resamples: how often to draw as many as there are.
        seed: of the draws; the same one draws the same units.

    Returns:
        (resamples, units) counts.
    """
    drawn = np.random.default_rng(seed).integers(0, units, (resamples, units))
    counts = np.zeros((resamples, units), dtype=np.int64)
    np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1)
    return counts


def percentile_interval(drawn: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The central part of the figures of all resamples, (resamples,)."""
    low, high = np.percentile(drawn, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def bootstrap_interval(
    values: np.ndarray, resampling: np.ndarray, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (units,).
        resampling: (resamples, units), see `draw_resampling`.
        confidence: of the interval.

    Returns:
        Lower and upper end; None both for fewer than two units, which do not tell how units differ.

    Reference:
        Efron & Tibshirani 1993, doi:10.1201/9780429246593, chapter 13

    Example:
        >>> gains = np.array([1.9, 2.4, 0.8, 1.6, 2.2])
        >>> low, high = bootstrap_interval(gains, draw_resampling(len(gains), resamples=2000, seed=0))
        >>> bool(low < gains.mean() < high)
        True
    """
    if len(values) < 2:
        return None, None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    return percentile_interval(resampling @ np.asarray(values, dtype=float) / len(values), confidence)
