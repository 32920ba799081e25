"""The rows of a record: results, their means over subjects, distances of sets of images, and power spectra."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from medsr_monai.evaluation.plan import Condition
from medsr_monai.evaluation.record.fields import DamagedError, check_known, parse

COSTS = ("seconds", "peak_mib")
"""What a method took, in the tables beside the figures of its images."""

Numbers = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One method under one condition on one case.

    Args:
        figures: measures by name; None where one cannot be had.
        peak_mib: memory that the method took, None where the system does not say.
        reasons: why a figure cannot be had, by name.
        power_db: of the result by frequency band.
        hr_power_db: of the reference.
        digest: of everything that the figures depend on.
    """

    case: str
    subject: str
    condition: Condition
    method: str
    figures: Mapping[str, float | None]
    seconds: float | None = None
    peak_mib: float | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    power_db: Numbers = ()
    hr_power_db: Numbers = ()
    digest: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.case, self.condition.name, self.method

    def value(self, measure: str) -> float | None:
        """A figure, or what the method took."""
        costs = {"seconds": self.seconds, "peak_mib": self.peak_mib}
        return costs[measure] if measure in costs else self.figures.get(measure)

    def to_row(self) -> dict[str, Any]:
        """As a flat row of cases.json and cases.csv."""
        head = {"case": self.case, "subject": self.subject, **asdict(self.condition)}
        names = {"condition": self.condition.name, "method": self.method}
        return {**head, **names, **self.figures, "seconds": self.seconds, "peak_mib": self.peak_mib}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Mean over subjects with its interval, and the paired difference to the baseline with its interval."""

    condition: Condition
    method: str
    measure: str
    n_cases: int
    n_subjects: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.condition.name, self.method, self.measure

    def to_row(self) -> dict[str, Any]:
        """As a flat row of summary.json and summary.csv."""
        content = asdict(self)
        return {"condition": self.condition.name, **content.pop("condition"), **content}


class _OfCondition:
    """Rows whose condition is written as its name."""

    def to_row(self) -> dict[str, Any]:
        content: Any = self
        return {**asdict(content), "condition": content.condition.name}


@dataclass(frozen=True)
class SetDistance(_OfCondition):
    """A distance between sets of images (Fréchet): one number a method, no interval.

    Args:
        value: None where there are too few samples.
        n: samples.
        features: the feature network in words.
    """

    condition: Condition
    method: str
    measure: str
    value: float | None
    n: int
    features: str = ""


@dataclass(frozen=True)
class Spectrum(_OfCondition):
    """Power in dB of one image, a method's or the reference, by frequency."""

    case: str
    condition: Condition
    image: str
    power_db: Numbers


Row = TypeVar("Row", Result, Estimate, SetDistance, Spectrum)


def read_rows(
    kind: type[Row],
    content: Mapping[str, Any],
    key: str,
    conditions: Mapping[str, Condition],
    methods: Container[str],
    measures: Iterable[str] = (),
) -> tuple[Row, ...]:
    """The rows under a key of a file.

    Conditions and methods are those that rows may name; measures are the columns of a result that are figures.

    Raises:
        DamagedError: a row lacks a field, has one of another type, or names what is not there.
    """
    if not isinstance(content.get(key), list):
        raise DamagedError(f"it needs the list '{key}'")
    rows = []
    for number, row in enumerate(content[key]):
        where = f"{key}[{number}]"
        if not isinstance(row, dict):
            raise DamagedError(f"{where} must be an object")
        check_known("condition", row.get("condition"), conditions, where)
        if kind is not Spectrum:
            check_known("method", row.get("method"), methods, where)
        figures = {"figures": {name: row.get(name) for name in measures}} if kind is Result else {}
        rows.append(parse(kind, {**row, "condition": conditions[row["condition"]], **figures}, where))
    return tuple(rows)
