"""The rows of a record: results, their means over subjects, distances of sets of images, and power spectra."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from medsr_monai.evaluation.plan import Condition
from medsr_monai.evaluation.record.entry import Entry

COSTS = ("seconds", "peak_mib")
"""What a method took, in the tables beside the figures of its images."""

Numbers = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One method under one condition on one case.

    Args:
        case: its name.
        subject: whose it is.
        condition: under which.
        method: its name.
        figures: measures by name; None where one cannot be had.
        seconds: that the method took.
        peak_mib: memory that it took, None where the system does not say.
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

    @classmethod
    def from_row(
        cls, entry: Entry, conditions: Mapping[str, Condition], methods: Container[str], measures: Iterable[str]
    ) -> Result:
        return cls(
            case=entry.text("case"),
            subject=entry.text("subject"),
            condition=conditions[entry.one_of("condition", conditions)],
            method=entry.one_of("method", methods),
            figures={name: entry.number(name) for name in measures},
            seconds=entry.number("seconds"),
            peak_mib=entry.number("peak_mib"),
        )

    def to_json(self) -> dict[str, Any]:
        """As the content of its own file."""
        return {**asdict(self), "condition": self.condition.to_json()}

    @classmethod
    def from_json(cls, entry: Entry) -> Result:
        figures, reasons = entry.child("figures"), entry.child("reasons")
        return cls(
            case=entry.text("case"),
            subject=entry.text("subject"),
            condition=Condition.from_json(entry.child("condition")),
            method=entry.text("method"),
            figures={name: figures.number(name) for name in figures.content},
            seconds=entry.required("seconds"),
            peak_mib=entry.number("peak_mib"),
            reasons={name: reasons.text(name) for name in reasons.content},
            power_db=entry.numbers("power_db"),
            hr_power_db=entry.numbers("hr_power_db"),
            digest=entry.text("digest"),
        )


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

    @classmethod
    def from_row(cls, entry: Entry, conditions: Mapping[str, Condition], methods: Container[str]) -> Estimate:
        numbers = ("mean", "low", "high", "difference", "difference_low", "difference_high")
        return cls(
            condition=conditions[entry.one_of("condition", conditions)],
            method=entry.one_of("method", methods),
            measure=entry.text("measure"),
            n_cases=int(entry.required("n_cases")),
            n_subjects=int(entry.required("n_subjects")),
            **{name: entry.number(name) for name in numbers},
        )


@dataclass(frozen=True)
class SetDistance:
    """A distance between sets of images (Fréchet): one number a method, no interval.

    Args:
        condition: its name.
        method: its name.
        measure: its name.
        value: None where there are too few samples.
        n: samples.
        features: the feature network in words.
    """

    condition: str
    method: str
    measure: str
    value: float | None
    n: int
    features: str

    @classmethod
    def from_json(cls, entry: Entry, conditions: Container[str], methods: Container[str]) -> SetDistance:
        return cls(
            entry.one_of("condition", conditions),
            entry.one_of("method", methods),
            entry.text("measure"),
            entry.number("value"),
            int(entry.number("n") or 0),
            entry.text("features", ""),
        )


@dataclass(frozen=True)
class Spectrum:
    """Power in dB of one image, a method's or the reference, by frequency."""

    case: str
    condition: str
    image: str
    power_db: Numbers

    @classmethod
    def from_json(cls, entry: Entry, conditions: Container[str]) -> Spectrum:
        condition = entry.one_of("condition", conditions)
        return cls(entry.text("case"), condition, entry.text("image"), entry.numbers("power_db"))
