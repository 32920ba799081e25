"""Kappa and ICC against published examples, brute force, and what degenerate ratings say."""

from __future__ import annotations

import numpy as np
import pytest

from medsr_monai.metrics.bootstrap import draw_resampling
from medsr_reader_study.agreement import (
    confusion,
    intraclass_correlation,
    kappa_of,
    pairwise_kappa,
    weighted_kappa,
)

# Shrout & Fleiss 1979, table 2: six targets, four judges.
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def test_icc_of_shrout_and_fleiss():
    single, mean = intraclass_correlation(SHROUT_FLEISS)
    assert single.value == pytest.approx(0.29, abs=0.005) and mean.value == pytest.approx(0.62, abs=0.005)
    # The intervals that R's psych::ICC prints for the same table.
    assert (single.low, single.high) == pytest.approx((0.019, 0.761), abs=0.001)
    assert (mean.low, mean.high) == pytest.approx((0.071, 0.927), abs=0.001)


def test_icc_by_its_variance_components(rng):
    """ICC(2,1) is the share of the items' variance, each component estimated by hand with loops."""
    table = rng.integers(1, 6, (9, 3)).astype(float)
    n, k = table.shape
    grand = table.mean()
    items = sum(k * (table[i].mean() - grand) ** 2 for i in range(n)) / (n - 1)
    readers = sum(n * (table[:, j].mean() - grand) ** 2 for j in range(k)) / (k - 1)
    rest = sum((table[i, j] - table[i].mean() - table[:, j].mean() + grand) ** 2 for i in range(n) for j in range(k))
    rest /= (n - 1) * (k - 1)
    of_items, of_readers = (items - rest) / k, (readers - rest) / n
    single, mean = intraclass_correlation(table)
    assert single.value == pytest.approx(of_items / (of_items + of_readers + rest))
    assert mean.value == pytest.approx(of_items / (of_items + (of_readers + rest) / k))
    assert single.low < single.value < single.high


def test_icc_interval_covers_the_truth_as_often_as_it_says():
    """Items' variance 1, readers' 0.25, residual 0.75: the true ICC(2,1) is 0.5."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        items, readers = rng.normal(0, 1, (30, 1)), rng.normal(0, 0.5, (1, 4))
        single, _ = intraclass_correlation(items + readers + rng.normal(0, np.sqrt(0.75), (30, 4)))
        covered += single.low <= 0.5 <= single.high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_reader_who_is_always_one_lower_costs_absolute_agreement():
    table = np.array([[2, 1], [3, 2], [4, 3], [5, 4]])
    single, _ = intraclass_correlation(table)
    assert 0 < single.value < 1 and single.low < single.value <= single.high


@pytest.mark.parametrize(
    ("table", "value", "words"),
    [
        (np.full((5, 3), 4), None, "all ratings are 4"),
        (np.array([[1], [2], [3]]), None, "one reader"),
        (np.array([[1, 2]]), None, "one item"),
        (np.array([[1, 1], [3, 3], [5, 5]]), 1.0, "agree in every item"),
        (np.array([[1, 2], [1, 2], [1, 2]]), 0.0, "no interval"),
    ],
)
def test_degenerate_tables_say_why_there_is_no_icc(table, value, words):
    single, _ = intraclass_correlation(table)
    assert single.value == value and single.low is None and words in single.note


@pytest.mark.filterwarnings("error")
def test_icc_is_never_nan(rng):
    for n, k, top in ((2, 2, 3), (3, 2, 3), (2, 3, 2), (4, 3, 6)):
        for _ in range(200):
            for estimate in intraclass_correlation(rng.integers(1, top, (n, k))):
                figures = [f for f in (estimate.value, estimate.low, estimate.high) if f is not None]
                assert np.isfinite(figures).all() and (len(figures) == 3 or estimate.note)


def test_kappa_by_hand():
    """Cohen's definition as loops over all pairs of ratings: observed over chance disagreement."""
    first, second = [1, 2, 2, 4, 5, 3, 3, 1], [1, 3, 2, 5, 5, 3, 1, 2]
    observed = np.mean([(a - b) ** 2 for a, b in zip(first, second, strict=True)])
    by_chance = np.mean([(a - b) ** 2 for a in first for b in second])
    assert weighted_kappa(first, second).value == pytest.approx(1 - observed / by_chance)


def test_kappa_of_two_categories_is_the_plain_one():
    """Altman's textbook arithmetic: 20, 5, 10, 15 of 50 agree in 70 % where chance gives 50 %: kappa 0.4."""
    first = [1] * 25 + [2] * 25
    second = [1] * 20 + [2] * 5 + [1] * 10 + [2] * 15
    assert weighted_kappa(first, second).value == pytest.approx(0.4)


def test_quadratic_kappa_is_the_icc_of_many_items(rng):
    """Fleiss & Cohen 1973, doi:10.1177/001316447303300309: they are the same but for terms in 1/n."""
    truth = rng.integers(1, 6, 4000)
    table = np.stack([np.clip(truth + rng.integers(-1, 2, 4000), 1, 5) for _ in range(2)], axis=1)
    single, _ = intraclass_correlation(table)
    assert weighted_kappa(*table.T).value == pytest.approx(single.value, abs=1e-3)


def test_kappa_without_variation_is_undefined_and_says_so():
    estimate = weighted_kappa([4, 4, 4], [4, 4, 4])
    assert estimate.value is None and "all ratings are 4" in estimate.note
    assert weighted_kappa([4, 4, 4], [3, 4, 5]).value == pytest.approx(0)
    assert "no ratings" in weighted_kappa([], []).note


def test_pairwise_kappa_is_the_mean_over_pairs_and_its_interval_a_bootstrap_over_units(rng):
    units = np.repeat(np.arange(8), 3)
    truth = rng.integers(1, 6, 24)
    table = np.stack([np.clip(truth + rng.integers(-1, 2, 24), 1, 5) for _ in range(3)], axis=1)
    resampling = draw_resampling(8, seed=0, resamples=300)
    estimate = pairwise_kappa(table, units, resampling)

    def mean_kappa(rows: np.ndarray) -> float:
        return float(np.mean([kappa_of(confusion(rows[:, a], rows[:, b])) for a, b in ((0, 1), (0, 2), (1, 2))]))

    drawn = [
        mean_kappa(np.concatenate([np.repeat(table[units == u], count, axis=0) for u, count in enumerate(counts)]))
        for counts in resampling
    ]
    assert estimate.value == pytest.approx(mean_kappa(table))
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_pairwise_kappa_says_what_it_lacks():
    resampling = draw_resampling(3, seed=0, resamples=50)
    units = np.arange(3)
    assert "one reader" in pairwise_kappa(np.array([[1], [2], [3]]), units, resampling).note
    constant = pairwise_kappa(np.full((3, 2), 5), units, resampling)
    assert constant.value is None and "all rate 5" in constant.note
    one = pairwise_kappa(np.array([[1, 2], [3, 3], [4, 5]]), np.zeros(3, int), draw_resampling(1, 50, 0))
    assert one.value is not None and one.low is None and "no interval" in one.note
