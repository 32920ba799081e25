"""The tables of a record, each a file or two: cases, summary, spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medsr_monai.evaluation.plan import HR, Condition, Method
from medsr_monai.evaluation.record.fields import AGAIN, DamagedError, check_known, parse, parse_list, reading
from medsr_monai.evaluation.record.manifest import read_manifest
from medsr_monai.evaluation.record.rows import COSTS, Estimate, Result, SetDistance, Spectrum, read_rows
from medsr_monai.evaluation.record.text import csv_text
from medsr_monai.metrics.catalogue import Measure, band_frequencies
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import write_json, write_text

FORMAT, VERSION = "medsr-evaluation", 1


@dataclass(frozen=True, kw_only=True)
class CaseTable:
    """``cases.json`` and ``cases.csv``: every result, and the names that all other files use.

    Results stand case by case; methods, conditions and measures by name. Conventions are what the figures mean.
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
        """Write both files."""
        rows = [result.to_row() for result in self.results]
        content = {
            "format": FORMAT,
            "version": VERSION,
            "baseline": self.baseline,
            "scale": self.scale,
            "conventions": self.conventions,
            "methods": {name: asdict(method) for name, method in self.methods.items()},
            "conditions": [{"name": name, **asdict(found)} for name, found in self.conditions.items()],
            "measures": {name: measure.described() for name, measure in self.measures.items()},
            "rows": rows,
        }
        write_json(content, folder / "cases.json")
        comments = list(self.conventions)
        for m in self.measures.values():
            better = "best at zero" if m.better == "zero" else f"{m.better} is better"
            comments.append(f"{m.name}: {m.heading}, {better}: {m.definition}")
        write_text(csv_text(comments, rows), folder / "cases.csv")

    @classmethod
    def read(cls, folder: Path) -> CaseTable:
        """Read cases.json; an `InputError` where it is missing, damaged, of another version, or something else."""
        path = folder / "cases.json"
        with reading(path) as content:
            if content.get("format") != FORMAT:
                raise InputError(f"{path}: not the result of an evaluation (format '{FORMAT}' is missing)")
            if content.get("version") != VERSION:
                raise InputError(
                    f"{path}: version {content.get('version')!r:.20} of the format, this program reads {VERSION}; "
                    "make the report with the version of medsr-monai that evaluated"
                )
            conditions = {found.name: found for found in parse_list(Condition, content, "conditions")}
            table = parse(cls, {**content, "conditions": conditions, "results": []})
            check_known("baseline", table.baseline, table.methods, "it")
            results = read_rows(Result, content, "rows", conditions, table.methods, table.measures)
        if not results:
            raise InputError(f"{path}: holds no case; {AGAIN}")
        return replace(table, results=results)


@dataclass(frozen=True)
class Summary:
    """``summary.json`` and ``summary.csv``: means over subjects with their intervals, and distances of sets of images.

    The keys of the estimates are condition, method and measure.
    """

    baseline: str
    confidence: float
    resamples: int
    seed: int
    estimates: Mapping[tuple[str, str, str], Estimate]
    sets: tuple[SetDistance, ...] = ()

    def write(self, folder: Path) -> None:
        """Write both files."""
        head = {key: getattr(self, key) for key in ("baseline", "confidence", "resamples", "seed")}
        rows = [estimate.to_row() for estimate in self.estimates.values()]
        write_json({**head, "rows": rows, "sets": [one.to_row() for one in self.sets]}, folder / "summary.json")
        comments = [f"{key}: {value}" for key, value in head.items()]
        comments += [f"{s.condition.name}, {s.method}: {s.measure} {s.value}, n {s.n}, {s.features}" for s in self.sets]
        write_text(csv_text(comments, rows), folder / "summary.csv")

    @classmethod
    def read(cls, folder: Path, table: CaseTable) -> Summary:
        """Read summary.json; an `InputError` where it is missing, damaged, or does not fit the table."""
        with reading(folder / "summary.json") as content:
            estimates = read_rows(Estimate, content, "rows", table.conditions, table.methods)
            for number, estimate in enumerate(estimates):
                check_known("measure", estimate.measure, (*table.measures, *COSTS), f"rows[{number}]")
            sets = list(read_rows(SetDistance, content, "sets", table.conditions, table.methods))
            return parse(cls, {**content, "estimates": {one.key: one for one in estimates}, "sets": sets})


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
                curve = Spectrum(result.case, result.condition, image, power)
                curves[result.case, result.condition, image] = curve
        return cls(tuple(band_frequencies()), tuple(curves.values()))

    def write(self, folder: Path) -> None:
        """Write the file."""
        content = {"frequency": self.frequency, "rows": [curve.to_row() for curve in self.curves]}
        write_json(content, folder / "spectra.json")

    @classmethod
    def read(cls, folder: Path, table: CaseTable) -> Spectra:
        """Read the file, empty where there is none; an `InputError` where it is damaged, or does not fit the table."""
        if not (folder / "spectra.json").exists():
            return cls()
        with reading(folder / "spectra.json") as content:
            curves = read_rows(Spectrum, content, "rows", table.conditions, table.methods)
            spectra = parse(cls, {**content, "curves": list(curves)})
            bands = len(spectra.frequency)
            for number, values in enumerate(len(curve.power_db) for curve in curves):
                if values != bands:
                    raise DamagedError(f"rows[{number}] has {values} values of power for {bands} frequencies")
        return spectra


@dataclass(frozen=True)
class EvaluationRun:
    """All that a report shows, but for the pictures; numbers that are not finite are None."""

    folder: Path
    manifest: Mapping[str, Any]
    table: CaseTable
    summary: Summary
    spectra: Spectra

    @classmethod
    def read(cls, folder: str | Path) -> EvaluationRun:
        """Read what `medsr evaluate --out` named, without its pictures.

        Raises:
            InputError: the folder is missing, is not an evaluation's, or a file of it is missing or damaged.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; name the one that `medsr evaluate --out` wrote")
        table = CaseTable.read(folder)
        return cls(folder, read_manifest(folder), table, Summary.read(folder, table), Spectra.read(folder, table))

    def estimates(self, condition: Condition, measure: Measure) -> dict[str, Estimate]:
        """Those that have a mean, by method."""
        keys = {name: (condition.name, name, measure.name) for name in self.table.methods}
        found = {name: self.summary.estimates[key] for name, key in keys.items() if key in self.summary.estimates}
        return {name: estimate for name, estimate in found.items() if estimate.mean is not None}
