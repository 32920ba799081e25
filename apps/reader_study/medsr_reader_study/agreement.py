"""How far readers agree, with one another and with themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from medsr_monai.metrics.bootstrap import percentile_interval
from medsr_reader_study.questions import HIGHEST, LOWEST

CATEGORIES = HIGHEST - LOWEST + 1


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; where one of them does not exist it is None, and the note says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


UNDEFINED = Estimate(None, note="less variation between items than by chance: the intraclass correlation is undefined")


def confusion(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often the pair of ratings (i, j) was given, (5, 5), from two (n,) arrays of ratings from 1 to 5."""
    table = np.zeros((CATEGORIES, CATEGORIES))
    np.add.at(table, (np.asarray(first) - LOWEST, np.asarray(second) - LOWEST), 1)
    return table


def kappa_of(tables: np.ndarray) -> np.ndarray:
    """Quadratically weighted kappa of tables (..., 5, 5); NaN where chance alone leaves no disagreement.

    ``1 - sum_ij w_ij o_ij / sum_ij w_ij e_ij``, ``w_ij = (i - j)^2``, o the observed shares, e those that the margins
    would give by chance.

    Reference:
        Cohen 1968, doi:10.1037/h0026256
    """
    steps = np.arange(CATEGORIES)
    weights = (steps[:, None] - steps[None, :]) ** 2
    n = tables.sum((-2, -1))
    by_chance = tables.sum(-1)[..., :, None] * tables.sum(-2)[..., None, :]
    observed, expected = (weights * tables).sum((-2, -1)) * n, (weights * by_chance).sum((-2, -1))
    return np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), np.nan)


def weighted_kappa(first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray) -> Estimate:
    """Quadratically weighted kappa of two series of ratings of the same pictures, without an interval.

    Args:
        first, second: (n,), from 1 to 5.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.size == 0:
        return Estimate(None, note="no ratings: kappa is undefined")
    value = float(kappa_of(confusion(first, second)))
    if np.isnan(value):
        return Estimate(None, note=f"all ratings are {first[0]}: kappa is undefined")
    return Estimate(value)


def pairwise_kappa(
    ratings: np.ndarray, units: np.ndarray, resampling: np.ndarray, confidence: float = 0.95
) -> Estimate:
    """Mean of the weighted kappas of all pairs of readers, with a percentile bootstrap interval.

    Args:
        ratings: (items, readers), from 1 to 5.
        units: (items,), which unit (subject or case) an item belongs to, from 0.
        resampling: (resamples, units), how often each unit was drawn.
        confidence: of the interval.

    Reference:
        Cohen 1968, doi:10.1037/h0026256; Light 1971, doi:10.1037/h0031643 (the mean over pairs)
    """
    pairs = list(combinations(range(ratings.shape[1]), 2))
    if not pairs:
        return Estimate(None, note="one reader: no agreement between readers")
    n_units = resampling.shape[1]
    drawn = np.zeros((len(pairs), len(resampling)))
    values = np.zeros(len(pairs))
    for n, (a, b) in enumerate(pairs):
        per_unit = np.stack(
            [confusion(ratings[units == unit, a], ratings[units == unit, b]).ravel() for unit in range(n_units)]
        )
        shape = (-1, CATEGORIES, CATEGORIES)
        values[n] = kappa_of(per_unit.sum(0).reshape(shape))[0]
        drawn[n] = kappa_of((resampling @ per_unit).reshape(shape))
    if np.isnan(values).any():
        a, b = pairs[int(np.flatnonzero(np.isnan(values))[0])]
        return Estimate(
            None, note=f"columns {a + 1} and {b + 1} of the readers all rate {ratings[0, a]}: kappa is undefined"
        )
    means = drawn.mean(0)
    valid = means[~np.isnan(means)]
    if n_units < 2:
        return Estimate(float(values.mean()), note="one case: no interval")
    if len(valid) < 0.95 * len(means):
        return Estimate(float(values.mean()), note="too many resamples without any variation: no interval")
    return Estimate(float(values.mean()), *percentile_interval(valid, confidence))


def mean_squares(ratings: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of a two-way table (n items, k readers): between items, between readers, residual."""
    n, k = ratings.shape
    grand, rows, columns = ratings.mean(), ratings.mean(1, keepdims=True), ratings.mean(0, keepdims=True)
    between_items = k * float(((rows - grand) ** 2).sum()) / (n - 1)
    between_readers = n * float(((columns - grand) ** 2).sum()) / (k - 1)
    residual = float(((ratings - rows - columns + grand) ** 2).sum()) / ((n - 1) * (k - 1))
    # Nought for what rounding leaves of it: whole numbers come out as 1e-31.
    between_items, between_readers, residual = (
        0.0 if value < 1e-12 else value for value in (between_items, between_readers, residual)
    )
    return between_items, between_readers, residual


def intraclass_correlation(ratings: np.ndarray, confidence: float = 0.95) -> tuple[Estimate, Estimate]:
    """ICC(2,1) and ICC(2,k): absolute agreement, two-way random effects, of one reader and of the mean of k.

    ``ICC(2,1) = (B - E) / (B + (k - 1) E + k (J - E) / n)``, ``ICC(2,k) = (B - E) / (B + (J - E) / n)`` with the mean
    squares B between items, J between readers ("judges") and E residual; intervals by Satterthwaite's approximation.

    Args:
        ratings: (n items, k readers).
        confidence: of the intervals.

    Reference:
        Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420; McGraw & Wong 1996, doi:10.1037/1082-989X.1.1.30
    """
    ratings = np.asarray(ratings, dtype=float)
    n, k = ratings.shape
    if n < 2 or k < 2:
        lacking = "one reader" if k < 2 else "one item"
        none = Estimate(None, note=f"{lacking}: the intraclass correlation is undefined")
        return none, none
    items, readers, residual = mean_squares(ratings)
    if max(items, readers, residual) == 0:
        none = Estimate(None, note=f"all ratings are {ratings[0, 0]:g}: the intraclass correlation is undefined")
        return none, none
    below = items + (k - 1) * residual + k * (readers - residual) / n
    if below <= 0:
        return UNDEFINED, UNDEFINED
    icc = (items - residual) / below
    agree = residual == 0 and readers == 0
    interval = None if agree else _interval(n, k, items, readers, residual, icc, confidence)
    if interval is None:
        note = "readers agree in every item: no interval" if agree else "no variation between items: no interval"
        mean = _of_mean(icc, k)
        return Estimate(icc, note=note), UNDEFINED if mean is None else Estimate(mean, note=note)
    mean, low, high = (_of_mean(value, k) for value in (icc, *interval))
    if mean is None:
        return Estimate(icc, *interval), UNDEFINED
    if low is None:
        return Estimate(icc, *interval), Estimate(mean, note="the lower bound lies below every number: no interval")
    return Estimate(icc, *interval), Estimate(mean, low, high)


def _of_mean(icc: float, k: int) -> float | None:
    """ICC(2,k) from ICC(2,1) (Spearman-Brown); None where it lies below every number."""
    below = 1 + (k - 1) * icc
    return k * icc / below if below > 0 else None


def _interval(
    n: int, k: int, items: float, readers: float, residual: float, icc: float, confidence: float
) -> tuple[float, float] | None:
    """Bounds of ICC(2,1), McGraw & Wong 1996, table 7, case 2; None without degrees of freedom."""
    from scipy.stats import f

    rest = n * (1 + (k - 1) * icc) - k * icc
    above = (k - 1) * (n - 1) * (k * icc * readers + rest * residual) ** 2
    below = (n - 1) * (k * icc * readers) ** 2 + (rest * residual) ** 2
    if above <= 0 or below <= 0:
        return None
    freedom = above / below
    quantile = (1 + confidence) / 2
    f_low, f_high = float(f.ppf(quantile, n - 1, freedom)), float(f.ppf(quantile, freedom, n - 1))
    spread = k * readers + (k * n - k - n) * residual
    low = n * (items - f_low * residual) / (f_low * spread + n * items)
    high = n * (f_high * items - residual) / (spread + n * f_high * items)
    return (low, high) if np.isfinite([low, high]).all() else None
