"""The tables of a record, each a file or two: cases, summary, spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medsr_monai.evaluation.plan import HR, Condition, Method
from medsr_monai.evaluation.record.entry import AGAIN, Entry
from medsr_monai.evaluation.record.rows import COSTS, Estimate, Result, SetDistance, Spectrum
from medsr_monai.evaluation.record.text import csv_text, unit_lines
from medsr_monai.metrics.catalogue import BETTER, Measure, band_frequencies
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import write_json, write_text

FORMAT, VERSION = "medsr-evaluation", 1


@dataclass(frozen=True, kw_only=True)
class CaseTable:
    """``cases.json`` and ``cases.csv``: every result, and the names that all other files use.

    Args:
        baseline: name of the method that differences are taken to.
        scale: factor per axis.
        conventions: what the figures mean, in lines.
        methods: by name.
        conditions: by name.
        measures: by name.
        results: case by case.
    """

    baseline: str
    scale: tuple[float, ...]
    conventions: tuple[str, ...]
    methods: Mapping[str, Method]
    conditions: Mapping[str, Condition]
    measures: Mapping[str, Measure]
    results: tuple[Result, ...]

    @property
    def subjects(self) -> dict[str, str]:
        """Subject by case, in the order of the table."""
        return {result.case: result.subject for result in self.results}

    def write(self, folder: Path) -> None:
        """Write both files.

        Raises:
            InputError: the folder cannot be written.
        """
        rows = [result.to_row() for result in self.results]
        content = {
            "format": FORMAT,
            "version": VERSION,
            "baseline": self.baseline,
            "scale": list(self.scale),
            "conventions": list(self.conventions),
            "methods": {name: method.to_json() for name, method in self.methods.items()},
            "conditions": [condition.to_json() for condition in self.conditions.values()],
            "measures": {name: _measure_json(measure) for name, measure in self.measures.items()},
            "rows": rows,
        }
        write_json(content, folder / "cases.json")
        write_text(csv_text([*self.conventions, *unit_lines(self.measures)], rows), folder / "cases.csv")

    @classmethod
    def read(cls, folder: Path) -> CaseTable:
        """Read cases.json.

        Raises:
            InputError: the file is missing, damaged, of another version, or something else.
        """
        path = folder / "cases.json"
        entry = Entry.read(path)
        if entry.content.get("format") != FORMAT:
            raise InputError(f"{path}: not the result of an evaluation (format '{FORMAT}' is missing)")
        if entry.content.get("version") != VERSION:
            raise InputError(
                f"{path}: version {entry.content.get('version')!r:.20} of the format, this program reads {VERSION}; "
                "make the report with the version of medsr-monai that evaluated"
            )
        measures = {name: _read_measure(name, item) for name, item in entry.named("measures").items()}
        methods = {name: Method.from_json(name, item) for name, item in entry.named("methods").items()}
        conditions = {found.name: found for found in map(Condition.from_json, entry.entries("conditions"))}
        table = cls(
            baseline=entry.one_of("baseline", methods),
            scale=tuple(factor for factor in entry.numbers("scale") if factor is not None),
            conventions=tuple(str(text) for text in entry.items("conventions")),
            methods=methods,
            conditions=conditions,
            measures=measures,
            results=tuple(Result.from_row(item, conditions, methods, measures) for item in entry.entries("rows")),
        )
        if not table.results:
            raise InputError(f"{path}: holds no case; {AGAIN}")
        return table


def _measure_json(measure: Measure) -> dict[str, str]:
    return {key: getattr(measure, key) for key in ("label", "unit", "better", "definition")}


def _read_measure(name: str, entry: Entry) -> Measure:
    better = next((known for known in BETTER if known == entry.text("better")), None)
    if better is None:
        raise entry.damaged(f"has better = '{entry.text('better')}', known are {', '.join(BETTER)}")
    return Measure(name, entry.text("label"), entry.text("unit"), better, entry.text("definition", ""))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """``summary.json`` and ``summary.csv``: means over subjects with their intervals, and distances of sets of images.

    Args:
        baseline: name of the method that differences are taken to.
        confidence: of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        estimates: by condition, method and measure.
        sets: distances of sets of images.
    """

    baseline: str
    confidence: float
    resamples: int
    seed: int
    estimates: Mapping[tuple[str, str, str], Estimate]
    sets: tuple[SetDistance, ...] = ()

    def write(self, folder: Path) -> None:
        """Write both files.

        Raises:
            InputError: the folder cannot be written.
        """
        head: dict[str, Any] = {key: getattr(self, key) for key in ("baseline", "confidence", "resamples", "seed")}
        rows = [estimate.to_row() for estimate in self.estimates.values()]
        write_json({**head, "rows": rows, "sets": [asdict(one) for one in self.sets]}, folder / "summary.json")
        comments = [f"{key}: {value}" for key, value in head.items()]
        comments += [f"{s.condition}, {s.method}: {s.measure} {s.value}, n {s.n}, {s.features}" for s in self.sets]
        write_text(csv_text(comments, rows), folder / "summary.csv")

    @classmethod
    def read(cls, folder: Path, table: CaseTable) -> Summary:
        """Read summary.json.

        Raises:
            InputError: the file is missing, damaged, or does not fit the table.
        """
        entry = Entry.read(folder / "summary.json")
        estimates = {}
        for item in entry.entries("rows"):
            estimate = Estimate.from_row(item, table.conditions, table.methods)
            if estimate.measure not in (*table.measures, *COSTS):
                raise item.damaged(f"names the measure '{estimate.measure}', which cases.json does not define")
            estimates[estimate.key] = estimate
        sets = entry.entries("sets") if "sets" in entry.content else []
        return cls(
            baseline=table.baseline,
            confidence=entry.required("confidence"),
            resamples=int(entry.required("resamples")),
            seed=int(entry.number("seed") or 0),
            estimates=estimates,
            sets=tuple(SetDistance.from_json(item, table.conditions, table.methods) for item in sets),
        )


@dataclass(frozen=True)
class Spectra:
    """``spectra.json``: power by frequency, a share of Nyquist's, of every result and every reference."""

    frequency: tuple[float, ...] = ()
    curves: tuple[Spectrum, ...] = ()

    @classmethod
    def of(cls, results: Sequence[Result]) -> Spectra:
        """A curve for each result, and one for the reference of each case and condition before them."""
        curves = {}
        for result in results:
            for image, power in ((HR, result.hr_power_db), (result.method, result.power_db)):
                key = (result.case, result.condition.name, image)
                curves[key] = Spectrum(*key, tuple(power))
        return cls(tuple(band_frequencies()), tuple(curves.values()))

    def write(self, folder: Path) -> None:
        """Write the file.

        Raises:
            InputError: the folder cannot be written.
        """
        content = {"frequency": list(self.frequency), "rows": [asdict(curve) for curve in self.curves]}
        write_json(content, folder / "spectra.json")

    @classmethod
    def read(cls, folder: Path, table: CaseTable) -> Spectra:
        """Read the file; empty where there is none.

        Raises:
            InputError: the file is damaged, or does not fit the table.
        """
        if not (folder / "spectra.json").exists():
            return cls()
        entry = Entry.read(folder / "spectra.json")
        frequency = tuple(f for f in entry.numbers("frequency") if f is not None)
        curves = []
        for item in entry.entries("rows"):
            curves.append(Spectrum.from_json(item, table.conditions))
            if len(curves[-1].power_db) != len(frequency):
                raise item.damaged(f"has {len(curves[-1].power_db)} values of power for {len(frequency)} frequencies")
        return cls(frequency, tuple(curves))
