"""The paired comparison of methods over cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's test: the sum of the positive differences' ranks, how many differences are not zero, two-sided p."""

    statistic: float
    n_nonzero: int
    p: float
    note: str = ""


def signed_rank(differences: Sequence[float] | np.ndarray) -> SignedRank:
    """Wilcoxon's signed rank test with the exact distribution given the ties; zero differences are left out.

    Ratings tie all the time, and then the tables and the normal approximation of few cases are wrong: the distribution
    of the rank sum under all 2^n signs is counted instead.

    Reference:
        Wilcoxon 1945, doi:10.2307/3001968
    """
    from scipy.stats import rankdata

    # Means over three readers differ in the last digit where they are equal: 4 - 11/3 and 8/3 - 7/3.
    rounded = np.round(np.asarray(differences, dtype=float), 9)
    nonzero = rounded[rounded != 0]
    if nonzero.size == 0:
        return SignedRank(0.0, 0, 1.0, "all differences are zero: nothing to test")
    doubled = np.rint(2 * rankdata(np.abs(nonzero))).astype(int)  # ties share half ranks
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] += ways[:-rank].copy()
        ways /= 2  # a share instead of a count, which would overflow
    positive = int(doubled[nonzero > 0].sum())
    tail = min(float(ways[: positive + 1].sum()), float(ways[positive:].sum()))
    smallest = 2.0 ** (1 - nonzero.size)
    note = f"{nonzero.size} differences other than zero: p cannot be below {smallest:.3g}" if smallest > 0.05 else ""
    return SignedRank(positive / 2, nonzero.size, min(1.0, 2 * tail), note)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: ``max over j <= i of min(1, (m - j + 1) p_(j))`` for p sorted upwards.

    Reference:
        Holm 1979, Scandinavian Journal of Statistics 6:65-70, https://www.jstor.org/stable/4615733
    """
    adjusted = [0.0] * len(p)
    largest = 0.0
    for position, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - position) * p[index]))
        adjusted[index] = largest
    return adjusted
