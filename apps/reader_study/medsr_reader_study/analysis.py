"""Analyse a study: means, comparison with the reference method, agreement between and within readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.metrics.bootstrap import CONFIDENCE, bootstrap_interval, draw_resampling
from medsr_monai.system.errors import InputError
from medsr_reader_study.agreement import intraclass_correlation, pairwise_kappa, weighted_kappa
from medsr_reader_study.answers import VERSION, Rating, read_all_answers, read_key
from medsr_reader_study.comparison import holm, signed_rank

FORMAT = "medsr-reader-analysis"
FEW_UNITS, FEW_REPEATS = 10, 10
RESAMPLES = 10_000
CONVENTIONS = (
    "mean: over subjects of the subject's mean over its cases and all readers; repeats are left out",
    f"low, high: {CONFIDENCE:.0%} percentile bootstrap over subjects, readers held fixed, {RESAMPLES} resamples",
    "difference: method - reference, paired by subject; p: Wilcoxon signed rank, two-sided, exact with ties; "
    "zero differences are left out",
    "p_holm: Holm's adjustment over all comparisons of both questions",
    "weighted_kappa: quadratic weights; between readers the mean over pairs, bootstrap over subjects",
    "icc_2_1, icc_2_k: two-way random effects, absolute agreement, of one reader and of the mean of all; F intervals",
)
REFERENCES = {
    "weighted_kappa": "Cohen 1968, doi:10.1037/h0026256",
    "icc": "Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420; McGraw & Wong 1996, doi:10.1037/1082-989X.1.1.30",
    "p": "Wilcoxon 1945, doi:10.2307/3001968",
    "p_holm": "Holm 1979, Scandinavian Journal of Statistics 6:65-70",
}


def analyse_study(
    study: str | Path, answers: Sequence[str | Path], reference: str | None = None, seed: int = 0
) -> dict[str, Any]:
    """All figures of a study, as ``analysis.json`` holds them.

    Args:
        study: the study's folder, or its key.
        answers: the files that the forms saved, one a reader.
        reference: the method to compare the others with; default is the one that the key names.
        seed: of the bootstrap.

    Raises:
        InputError: a damaged key, answers that do not fit it, or an unknown reference.
    """
    key = read_key(study)
    reference = str(reference) if reference is not None else key["reference"]
    if reference not in key["methods"]:
        raise InputError(f"--reference {reference}: was not read; there are {', '.join(key['methods'])}")
    ratings = read_all_answers(answers, key)
    first = [rating for rating in ratings if rating.repeat_of is None]
    questions = [question["name"] for question in key["questions"]]
    subjects = sorted({rating.subject for rating in first})
    resampling = draw_resampling(len(subjects), RESAMPLES, seed)
    rows = [row for q in questions for row in _method_rows(q, first, key["methods"], reference, subjects, resampling)]
    tested = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = adjusted
    readers = sorted({rating.reader for rating in ratings})
    return {
        "format": FORMAT,
        "version": VERSION,
        "study": key["study"],
        "condition": key["condition"],
        "layout": key["layout"],
        "reference": reference,
        "readers": readers,
        "n_cases": len({rating.case for rating in first}),
        "n_subjects": len(subjects),
        "n_ratings": len(ratings),
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "seed": seed,
        "conventions": list(CONVENTIONS),
        "references": REFERENCES,
        "methods": rows,
        "agreement": [row for q in questions for row in _agreement_rows(q, first, readers, subjects, resampling)],
        "repeatability": [row for q in questions for row in _repeat_rows(q, ratings, readers)],
        "statements": list(_statements(key, readers, len(subjects), len({rating.case for rating in first}))),
        "ratings": [_rating_row(rating) for rating in ratings],
    }


def _statements(key: Mapping[str, Any], readers: Sequence[int], n_subjects: int, n_cases: int) -> Iterator[str]:
    absent = [form["reader"] for form in key["readers"] if form["reader"] not in readers]
    if absent:
        yield f"no answers of reader {', '.join(map(str, absent))}"
    if len(readers) == 1:
        yield "one reader: no agreement between readers"
    if n_subjects < FEW_UNITS:
        yield f"{n_subjects} subject(s): bootstrap intervals of fewer than {FEW_UNITS} are too short"
    if n_subjects < n_cases:
        yield f"{n_cases} cases of {n_subjects} subjects: cases of one subject are averaged"


def _method_rows(
    question: str,
    ratings: Sequence[Rating],
    methods: Sequence[str],
    reference: str,
    subjects: Sequence[str],
    resampling: np.ndarray,
) -> Iterator[dict[str, Any]]:
    """Mean and comparison of each method, for one question."""
    means = {method: _subject_means(question, ratings, method, subjects) for method in methods}
    for method in methods:
        row: dict[str, Any] = {"question": question, "method": method, "n_subjects": len(subjects)}
        row["mean"] = float(means[method].mean())
        row["low"], row["high"] = bootstrap_interval(means[method], resampling)
        compared = ("difference", "difference_low", "difference_high", "statistic", "n_nonzero", "p", "p_holm")
        row.update(dict.fromkeys(compared))
        row["note"] = "one subject: no interval" if len(subjects) < 2 else ""
        if method != reference:
            differences = means[method] - means[reference]
            test = signed_rank(differences)
            row["difference"] = float(differences.mean())
            row["difference_low"], row["difference_high"] = bootstrap_interval(differences, resampling)
            row["statistic"], row["n_nonzero"], row["p"] = test.statistic, test.n_nonzero, test.p
            row["note"] = "; ".join(filter(None, [row["note"], test.note]))
        yield row


def _subject_means(question: str, ratings: Sequence[Rating], method: str, subjects: Sequence[str]) -> np.ndarray:
    """(subjects,): every case has as many ratings, one a reader."""
    of = [[r.values[question] for r in ratings if (r.method, r.subject) == (method, subject)] for subject in subjects]
    return np.array([np.mean(values) for values in of])


def _agreement_rows(
    question: str, ratings: Sequence[Rating], readers: Sequence[int], subjects: Sequence[str], resampling: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Agreement between readers over all pictures, each read once by everyone."""
    pictures = sorted({(rating.subject, rating.case, rating.method) for rating in ratings})
    row_of = {(case, method): row for row, (_, case, method) in enumerate(pictures)}
    table = np.zeros((len(pictures), len(readers)), dtype=int)
    for rating in ratings:
        table[row_of[rating.case, rating.method], readers.index(rating.reader)] = rating.values[question]
    units = np.array([subjects.index(subject) for subject, _, _ in pictures])
    single, mean = intraclass_correlation(table, CONFIDENCE)
    found = {"weighted_kappa": pairwise_kappa(table, units, resampling), "icc_2_1": single, "icc_2_k": mean}
    for statistic, estimate in found.items():
        head = {"question": question, "statistic": statistic, "n_items": len(pictures), "n_readers": len(readers)}
        yield {**head, **asdict(estimate)}


def _repeat_rows(question: str, ratings: Sequence[Rating], readers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Agreement of each reader with themselves, from what they saw twice."""
    values = {(rating.reader, rating.item): rating.values[question] for rating in ratings}
    for reader in readers:
        again = [rating for rating in ratings if rating.reader == reader and rating.repeat_of is not None]
        first = np.array([values[reader, str(rating.repeat_of)] for rating in again], dtype=int)
        second = np.array([rating.values[question] for rating in again], dtype=int)
        kappa = weighted_kappa(first, second)
        few = f"{len(again)} repeats are too few for a stable kappa" if 0 < len(again) < FEW_REPEATS else ""
        yield {
            "question": question,
            "reader": reader,
            "n_repeats": len(again),
            "weighted_kappa": kappa.value,
            "same": float((first == second).mean()) if again else None,
            "within_one": float((np.abs(first - second) <= 1).mean()) if again else None,
            "note": "; ".join(filter(None, ["no repeats" if not again else kappa.note, few])),
        }


def _rating_row(rating: Rating) -> dict[str, Any]:
    row = asdict(rating)
    values, note = row.pop("values"), row.pop("note")
    return {**row, **values, "note": note}
