"""Intervals and tests against brute force, scipy and hand-made figures."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from medsr_reader_study.comparison import holm, signed_rank


def by_counting_signs(differences: np.ndarray) -> float:
    """Two-sided p of the signed rank test: all 2^n signs, one after the other."""
    nonzero = differences[differences != 0]
    ranks = stats.rankdata(np.abs(nonzero))
    observed = ranks[nonzero > 0].sum()
    sums = np.array(
        [sum(r for r, sign in zip(ranks, s, strict=True) if sign) for s in product((0, 1), repeat=len(ranks))]
    )
    return min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))


@pytest.mark.parametrize("seed", range(6))
def test_signed_rank_with_ties_and_zeros_is_what_all_signs_give(seed):
    differences = np.random.default_rng(seed).integers(-2, 4, 10) / 3
    assert signed_rank(differences).p == pytest.approx(by_counting_signs(differences))


@pytest.mark.parametrize("n", [3, 7, 20, 40])
def test_signed_rank_without_ties_is_scipys_exact_test(n):
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    expected = stats.wilcoxon(differences, method="exact")
    found = signed_rank(differences)
    assert found.p == pytest.approx(expected.pvalue)
    assert min(found.statistic, n * (n + 1) / 2 - found.statistic) == pytest.approx(expected.statistic)


def test_signed_rank_of_many_tied_cases_nears_scipys_approximation():
    differences = np.random.default_rng(0).integers(-3, 4, 300) / 3
    expected = stats.wilcoxon(differences, method="approx").pvalue
    assert signed_rank(differences).p == pytest.approx(expected, rel=0.05)


def test_equal_differences_tie_whatever_their_last_digit():
    """4 - 11/3 and 8/3 - 7/3 are both a third, but not the same float."""
    thirds = [4 - 11 / 3, 8 / 3 - 7 / 3, -(5 / 3 - 4 / 3), 0.5]
    assert len(set(thirds[:2])) == 2
    assert signed_rank(thirds).p == signed_rank([1, 1, -1, 2]).p


def test_zero_differences_are_named():
    nothing = signed_rank([0.0, 0.0, 1e-16])
    assert nothing.p == 1 and nothing.n_nonzero == 0 and "all differences are zero" in nothing.note
    few = signed_rank([0.0, 1.0, 2.0, 3.0])
    assert few.n_nonzero == 3 and few.p == 0.25 and "cannot be below 0.25" in few.note
    assert signed_rank(np.arange(1, 11)).note == ""


def test_holm_by_its_definition():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, then never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []
