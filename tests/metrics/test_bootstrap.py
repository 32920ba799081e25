"""Bootstrap intervals agree with drawing by hand, with scipy, and cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsr_monai.metrics.bootstrap import bootstrap_interval, draw_resampling


def brute_force(values: np.ndarray, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    means = [np.mean([values[rng.integers(len(values))] for _ in values]) for _ in range(resamples)]
    return np.quantile(means, 0.025), np.quantile(means, 0.975)


def interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float | None, float | None]:
    return bootstrap_interval(values, draw_resampling(len(values), resamples, seed))


def test_an_interval_is_that_of_drawing_subjects_by_hand(rng):
    values = rng.standard_normal(9) * 2 + 5
    ours = interval(values, 20000, 0)
    assert ours == pytest.approx(brute_force(values, 20000, rng), abs=0.05)
    assert ours == interval(values, 20000, 0) != interval(values, 20000, 1)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=500, method="percentile", rng=np.random.default_rng(3))
    assert interval(values, 500, 3) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-12)


def test_fewer_than_two_subjects_have_none_and_equal_ones_a_point():
    assert interval(np.array([3.0]), 100, 0) == (None, None)
    assert interval(np.array([0.1, 0.1, 0.1]), 100, 0) == (0.1, 0.1)


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(5)
    resampling = draw_resampling(40, 1000, 0)
    intervals = [bootstrap_interval(rng.normal(3, 1, 40), resampling) for _ in range(400)]
    assert 0.91 <= np.mean([low <= 3 <= high for low, high in intervals]) <= 0.98


def test_bootstrap_interval_is_that_of_drawn_means(rng):
    values, resampling = rng.normal(size=6), draw_resampling(6, 200, 3)
    drawn = [np.repeat(values, counts).mean() for counts in resampling]
    assert bootstrap_interval(values, resampling) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
