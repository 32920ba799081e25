"""Bootstrap intervals agree with drawing by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsr_monai.evaluation.plan import Condition
from medsr_monai.evaluation.record.rows import Result
from medsr_monai.evaluation.summary import summarise
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


def result(subject: str, method: str, value: float | None, case: str = "") -> Result:
    case = case or subject
    condition = Condition("box", 0.0)
    return Result(case=case, subject=subject, condition=condition, method=method, figures={"psnr": value}, seconds=1.0)


def test_images_of_one_subject_count_as_one_and_differences_are_paired():
    values = {"a": (30.0, 31.0), "b": (20.0, 21.5), "c": (40.0, 40.5)}
    results = [
        one
        for subject, (cubic, sr) in values.items()
        for one in (result(subject, "cubic", cubic), result(subject, "sr", sr))
    ]
    results += [result("a", "sr", 33.0, "a2"), result("a", "cubic", 30.0, "a2")]
    rows = {row.method: row for row in summarise(results, ["psnr"], "cubic", 2000, 0).values()}
    sr = rows["sr"]
    assert (sr.n_cases, sr.n_subjects) == (4, 3)
    assert sr.mean == pytest.approx((32 + 21.5 + 40.5) / 3)
    assert sr.difference == pytest.approx((2 + 1.5 + 0.5) / 3)
    # Subjects differ by 20 dB, their gains by 1.5: only paired does the gain have a narrow interval.
    assert sr.difference_high - sr.difference_low <= 1.5 < sr.high - sr.low
    cubic = rows["cubic"]
    assert (cubic.difference, cubic.difference_low, cubic.difference_high) == (0, 0, 0)


def test_a_figure_that_is_missing_takes_its_subject_out_of_the_pairs():
    results = [result("a", "cubic", 30.0), result("a", "sr", None), result("b", "cubic", 20.0), result("b", "sr", 22.0)]
    found = summarise(results, ["psnr", "seconds"], "cubic", 100, 0)
    rows = {method: row for (_, method, measure), row in found.items() if measure == "psnr"}
    assert (rows["sr"].n_cases, rows["sr"].n_subjects, rows["sr"].low) == (1, 1, None)
    assert (rows["sr"].mean, rows["sr"].difference, rows["cubic"].mean) == (22.0, 2.0, 25.0)
