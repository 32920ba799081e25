"""Means over subjects and paired differences."""

from __future__ import annotations

import pytest

from medsr_monai.evaluation.plan import Condition
from medsr_monai.evaluation.record.rows import Result
from medsr_monai.evaluation.summary import summarise


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
