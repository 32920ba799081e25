"""The folder that ``medsr evaluate`` wrote: read it, check it, and refuse what is damaged or something else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsr_monai.system.errors import InputError

FORMAT, VERSION = "medsr-evaluation", 1
BETTER = ("higher", "lower", "zero")
COSTS = ("seconds", "peak_mib")  # columns of the rows that are no measures of an image
ESTIMATES = ("mean", "low", "high", "difference", "difference_low", "difference_high")


@dataclass(frozen=True)
class Measure:
    """A column of the evaluation; ``better`` is ``higher``, ``lower``, or ``zero`` where the best value is 0."""

    name: str
    label: str
    unit: str
    better: str
    definition: str

    @property
    def heading(self) -> str:
        """Label and unit, as an axis needs them."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Method:
    """A way to upscale; ``perception`` is the dial's setting of a network, None where it has no dial."""

    name: str
    label: str
    kind: str
    perception: float | None


@dataclass(frozen=True)
class Condition:
    """How the low-resolution images were simulated: slice profile and noise (share of the robust range)."""

    name: str
    degradation: str
    noise: float

    @property
    def label(self) -> str:
        return f"{self.degradation}, noise {self.noise:g}"


@dataclass(frozen=True)
class CaseRow:
    """What was measured on one case, under one condition, of one method; None is a value that could not be had."""

    case: str
    subject: str
    condition: str
    method: str
    values: Mapping[str, float | None]
    seconds: float | None
    peak_mib: float | None


@dataclass(frozen=True)
class Estimate:
    """Mean over subjects with its interval, and the paired difference to the baseline with its interval."""

    n_cases: int
    n_subjects: int
    mean: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None


@dataclass(frozen=True)
class SetDistance:
    """A distance between sets of images (Fréchet): one number per method, no interval."""

    condition: str
    method: str
    measure: str
    value: float | None
    samples: int
    features: str


@dataclass(frozen=True)
class Spectrum:
    """Power in dB of one image, at the frequencies of the run."""

    case: str
    condition: str
    image: str
    power_db: tuple[float | None, ...]


@dataclass(frozen=True)
class EvaluationRun:
    """All that the report shows, but for the pictures."""

    folder: Path
    manifest: Mapping[str, Any]
    baseline: str
    scale: tuple[float, ...]
    conventions: tuple[str, ...]
    measures: Mapping[str, Measure]
    methods: Mapping[str, Method]
    conditions: Mapping[str, Condition]
    rows: tuple[CaseRow, ...]
    estimates: Mapping[tuple[str, str, str], Estimate]  # by condition, method, measure
    confidence: float
    resamples: int
    sets: tuple[SetDistance, ...]
    frequency: tuple[float, ...]  # share of the Nyquist frequency
    spectra: tuple[Spectrum, ...]

    @property
    def is_completed(self) -> bool:
        return self.manifest.get("status") == "completed"

    @property
    def ending(self) -> str:
        """How a run that is not completed ended, or that it did not."""
        endings = {"interrupted": "was interrupted", "failed": "ended with an error"}
        return endings.get(str(self.manifest.get("status")), "has not ended, or was killed")

    @property
    def cases(self) -> list[str]:
        return list(dict.fromkeys(row.case for row in self.rows))

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(row.subject for row in self.rows))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: not found; the folder must be one that `medsr evaluate --out` wrote to its end"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise InputError(f"{path}: damaged, it is not JSON; run `medsr evaluate` again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged, it holds no JSON object; run `medsr evaluate` again")
    return content


class _Entry:
    """A JSON object of a file whose fields are taken with their type checked."""

    def __init__(self, path: Path, where: str, content: Any) -> None:
        self.path, self.where, self.content = path, where, content
        if not isinstance(content, dict):
            raise self.damaged("must be an object")

    def damaged(self, what: str) -> InputError:
        return InputError(f"{self.path}: damaged, {self.where} {what}; run `medsr evaluate` again")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.content.get(key, default)
        if not isinstance(value, str):
            raise self.damaged(f"needs the text '{key}'")
        return value

    def number(self, key: str) -> float | None:
        """A finite number; None for null, for a key that is missing, and for NaN or infinity."""
        return self._finite(self.content.get(key), key)

    def required(self, key: str) -> float:
        value = self.number(key)
        if value is None:
            raise self.damaged(f"needs the number '{key}'")
        return value

    def numbers(self, key: str) -> tuple[float | None, ...]:
        return tuple(self._finite(value, key) for value in self.items(key))

    def items(self, key: str) -> list[Any]:
        value = self.content.get(key)
        if not isinstance(value, list):
            raise self.damaged(f"needs the list '{key}'")
        return value

    def entries(self, key: str) -> list[_Entry]:
        return [_Entry(self.path, f"{key}[{i}]", item) for i, item in enumerate(self.items(key))]

    def named(self, key: str) -> dict[str, _Entry]:
        table = _Entry(self.path, f"'{key}'", self.content.get(key))
        return {name: _Entry(self.path, f"{key} '{name}'", item) for name, item in table.content.items()}

    def one_of(self, key: str, known: Mapping[str, Any]) -> str:
        value = self.text(key)
        if value not in known:
            raise self.damaged(f"names the {key} '{value}', which the file does not define")
        return value

    def _finite(self, value: Any, key: str) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.damaged(f"has '{key}' = {value!r:.60}, which is no number")
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None


def _measure(name: str, entry: _Entry) -> Measure:
    better = entry.text("better")
    if better not in BETTER:
        raise entry.damaged(f"has better = '{better}', known are {', '.join(BETTER)}")
    return Measure(name, entry.text("label"), entry.text("unit"), better, entry.text("definition", ""))


def _row(entry: _Entry, table: EvaluationTable) -> CaseRow:
    return CaseRow(
        entry.text("case"),
        entry.text("subject"),
        entry.one_of("condition", table.conditions),
        entry.one_of("method", table.methods),
        {name: entry.number(name) for name in table.measures},
        entry.number("seconds"),
        entry.number("peak_mib"),
    )


@dataclass(frozen=True)
class EvaluationTable:
    """What cases.json defines: the names that all other files use."""

    entry: _Entry
    measures: dict[str, Measure]
    methods: dict[str, Method]
    conditions: dict[str, Condition]


def _read_table(path: Path) -> EvaluationTable:
    entry = _Entry(path, "it", _read_json(path))
    if entry.content.get("format") != FORMAT:
        raise InputError(f"{path}: not the result of an evaluation (format '{FORMAT}' is missing)")
    if entry.content.get("version") != VERSION:
        raise InputError(
            f"{path}: version {entry.content.get('version')!r:.20} of the format, this program reads {VERSION}; "
            "make the report with the version of medsr-monai that evaluated"
        )
    measures = {name: _measure(name, item) for name, item in entry.named("measures").items()}
    methods = {
        name: Method(name, item.text("label"), item.text("kind"), item.number("perception"))
        for name, item in entry.named("methods").items()
    }
    conditions = {
        item.text("name"): Condition(item.text("name"), item.text("degradation"), item.required("noise"))
        for item in entry.entries("conditions")
    }
    return EvaluationTable(entry, measures, methods, conditions)


def _read_estimates(entry: _Entry, table: EvaluationTable) -> dict[tuple[str, str, str], Estimate]:
    estimates = {}
    for row in entry.entries("rows"):
        key = (row.one_of("condition", table.conditions), row.one_of("method", table.methods), row.text("measure"))
        if key[2] in COSTS:
            continue
        if key[2] not in table.measures:
            raise row.damaged(f"names the measure '{key[2]}', which cases.json does not define")
        numbers = [row.number(name) for name in ESTIMATES]
        estimates[key] = Estimate(int(row.required("n_cases")), int(row.required("n_subjects")), *numbers)
    return estimates


def _read_spectra(path: Path, conditions: Mapping[str, Condition]) -> tuple[tuple[float, ...], tuple[Spectrum, ...]]:
    """Frequencies and curves; empty where the run wrote none."""
    if not path.exists():
        return (), ()
    entry = _Entry(path, "it", _read_json(path))
    frequency = tuple(f for f in entry.numbers("frequency") if f is not None)
    spectra = []
    for row in entry.entries("rows"):
        power = row.numbers("power_db")
        if len(power) != len(frequency):
            raise row.damaged(f"has {len(power)} values of power for {len(frequency)} frequencies")
        spectra.append(Spectrum(row.text("case"), row.one_of("condition", conditions), row.text("image"), power))
    return frequency, tuple(spectra)


def read_run(folder: str | Path) -> EvaluationRun:
    """Read an evaluation's folder, without its pictures.

    Args:
        folder: what `medsr evaluate --out` named.

    Returns:
        The run; numbers that are not finite are None.

    Raises:
        InputError: the folder is missing, is not an evaluation's, or a file of it is missing or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the one that `medsr evaluate --out` wrote")
    table = _read_table(folder / "cases.json")
    rows = tuple(_row(item, table) for item in table.entry.entries("rows"))
    if not rows:
        raise InputError(f"{folder / 'cases.json'}: holds no case; run `medsr evaluate` again")
    manifest = _read_json(folder / "run.json")
    summary = _Entry(folder / "summary.json", "it", _read_json(folder / "summary.json"))
    sets = [
        SetDistance(
            item.one_of("condition", table.conditions),
            item.one_of("method", table.methods),
            item.text("measure"),
            item.number("value"),
            int(item.number("n") or 0),
            item.text("features", ""),
        )
        for item in (summary.entries("sets") if "sets" in summary.content else [])
    ]
    frequency, spectra = _read_spectra(folder / "spectra.json", table.conditions)
    return EvaluationRun(
        folder=folder,
        manifest=manifest,
        baseline=table.entry.one_of("baseline", table.methods),
        scale=tuple(s for s in table.entry.numbers("scale") if s is not None),
        conventions=tuple(str(text) for text in table.entry.items("conventions")),
        measures=table.measures,
        methods=table.methods,
        conditions=table.conditions,
        rows=rows,
        estimates=_read_estimates(summary, table),
        confidence=summary.required("confidence"),
        resamples=int(summary.required("resamples")),
        sets=tuple(sets),
        frequency=frequency,
        spectra=spectra,
    )
