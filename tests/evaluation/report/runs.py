"""A small folder as ``medsr evaluate`` writes it, with made-up figures, to test its readers on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.evaluation.plan import Condition, Method
from medsr_monai.evaluation.record.rows import Result, Spectrum
from medsr_monai.evaluation.record.tables import CaseTable, Spectra, Summary
from medsr_monai.evaluation.record.views import View, draw_view
from medsr_monai.evaluation.summary import summarise
from medsr_monai.geometry.planes import Picture
from medsr_monai.metrics.catalogue import Measure
from medsr_monai.system.json_files import write_json

MEASURES = (
    Measure("psnr", "PSNR", "dB", "higher", "what psnr is"),
    Measure("ssim", "SSIM", "", "higher", "what ssim is"),
    Measure("gradient_distribution", "Gradient distribution", "", "lower", "what gradient_distribution is"),
    Measure("perceptual_distance", "Perceptual distance", "", "lower", "what perceptual_distance is"),
    Measure("consistency_max", "Consistency, maximum", "share of range", "lower", "what consistency_max is"),
    Measure("consistency_rms", "Consistency, RMS", "share of range", "lower", "what consistency_rms is"),
    Measure("bias", "Bias", "share of range", "zero", "what bias is"),
)
PSNR = {"linear": 24.0, "cubic": 25.0, "cubic+exact": 25.4, "sr": 28.0, "sr@0.5": 27.4, "sr@1": 26.4}
METHODS = {
    "linear": Method("linear", "linear", "classic", None, "none"),
    "cubic": Method("cubic", "cubic B-spline", "classic", None, "none"),
    "cubic+exact": Method("cubic+exact", "cubic B-spline, exactly consistent", "classic", None, "exact"),
    "sr": Method("sr", "network", "network", 0.0, "exact"),
    "sr@0.5": Method("sr@0.5", "network, perception 0.5", "network", 0.5, "exact"),
    "sr@1": Method("sr@1", "network, perception 1", "network", 1.0, "exact"),
}
SPACING_MM = (1.0, 1.2, 1.5)


@dataclass(frozen=True)
class Layout:
    """How large a made-up run is."""

    cases: Sequence[str] = ("s1_a", "s1_b", "s2", "s3")
    subjects: Sequence[str] = ("s1", "s1", "s2", "s3")
    conditions: Sequence[tuple[str, float]] = (("box", 0.0), ("gaussian", 0.02))
    methods: Sequence[str] = tuple(METHODS)
    without: Sequence[str] = ()  # measures that the run has not
    shape: tuple[int, int, int] = (24, 20, 16)
    pictures: int = 2
    slices: int = 6


def _figures(condition: Condition, method: Method, measures: Any, rng: np.random.Generator) -> dict[str, float | None]:
    psnr = PSNR.get(method.name, 26.0) + rng.normal(0, 0.6) - 40 * condition.noise
    perception, learned = method.perception or 0.0, 0.1 * (method.kind == "network")
    values = {
        "psnr": psnr,
        "ssim": 1 - 10 ** (-psnr / 30),
        "gradient_distribution": 0.3 - 0.1 * perception - learned,
        "perceptual_distance": 0.4 - 0.2 * perception - learned + rng.normal(0, 0.01),
        "consistency_max": 3e-7 if method.consistency == "exact" else 0.2,
        "consistency_rms": 5e-8 if method.consistency == "exact" else 0.02,
        "bias": rng.normal(0, 0.001),
    }
    return {name: float(values[name]) for name in measures}


def phantom(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """A bright ellipsoid with texture inside, about 0 to 1."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij")
    inside = (x**2 + y**2 + z**2) < 0.7
    return inside * (0.6 + 0.3 * np.sin(6 * x) * np.cos(5 * y) + 0.1 * rng.random(tuple(shape)))


def draw(case: str, condition: str, layout: Layout, rng: np.random.Generator) -> View:
    """Pictures of a phantom averaged by two along every axis that has more than one voxel."""
    hr = phantom(layout.shape, rng)
    factors = [2 if n > 1 else 1 for n in layout.shape]
    parts = [part for n, factor in zip(layout.shape, factors, strict=True) for part in (n // factor, factor)]
    lr = Picture(hr.reshape(parts).mean(axis=(1, 3, 5)), tuple(np.multiply(SPACING_MM, factors)))
    first = (layout.shape[2] - layout.slices) // 2
    mask = np.zeros(layout.shape, bool)
    mask[:, :, max(first, 0) : max(first, 0) + layout.slices] = True
    results = {name: hr + (30 - PSNR.get(name, 26.0)) * 0.01 * rng.normal(size=hr.shape) for name in layout.methods}
    return draw_view(case, condition, lr, Picture(hr, SPACING_MM), mask, results)


def write_run(folder: Path, layout: Layout | None = None) -> Path:
    """Write a whole folder of an evaluation.

    Args:
        folder: made where it is missing.
        layout: how large it is.

    Returns:
        The folder.
    """
    layout, rng = layout or Layout(), np.random.default_rng(5)
    methods = {name: METHODS.get(name, Method(name, name, "network", 0.0, "none")) for name in layout.methods}
    measures = {measure.name: measure for measure in MEASURES if measure.name not in layout.without}
    conditions = [Condition(*pair) for pair in layout.conditions]
    cases = dict(zip(layout.cases, layout.subjects, strict=True))
    results = [
        Result(
            case=case,
            subject=subject,
            condition=condition,
            method=method.name,
            figures=_figures(condition, method, measures, rng),
            seconds=1.5,
            peak_mib=300.0,
        )
        for condition in conditions
        for case, subject in cases.items()
        for method in methods.values()
    ]
    table = CaseTable(
        baseline="cubic" if "cubic" in methods else layout.methods[0],
        scale=(2.0, 2.0, 2.0),
        conventions=("1 is the 99.5th percentile of HR",),
        methods=methods,
        conditions={condition.name: condition for condition in conditions},
        measures=measures,
        results=tuple(results),
    )
    frequency = np.linspace(0.02, 1, 30)
    curves = [
        Spectrum(case=case, condition=condition, image=image, power_db=tuple(-30 * frequency - loss * frequency**2))
        for case in cases
        for condition in conditions
        for image, loss in {"hr": 0.0, **{name: 60 / PSNR.get(name, 26.0) for name in methods}}.items()
    ]
    table.write(folder)
    write_summary(folder, table)
    Spectra(tuple(frequency.tolist()), tuple(curves)).write(folder)
    manifest = {
        "status": "completed",
        "bundle": {"name": "toy_bundle", "version": "0.3.0"},
        "settings": {"hr": "data/Doe_Jane/scans", "noise": [0, 0.02], "methods": list(methods)},
        "weights": {"model.pt": "3b1f" * 16},
        "versions": {"torch": "2.13.0", "medsr-monai": "0.1.0"},
        "device": "cpu",
        "seconds": 12.5,
    }
    write_json(manifest, folder / "run.json")
    for number, case in enumerate(layout.cases[: layout.pictures]):
        name = conditions[0].name
        draw(case, name, layout, rng).write(folder / "views" / f"case{number}.{name}.npz")
    return folder


def write_summary(folder: Path, table: CaseTable) -> None:
    """The summary of a table."""
    estimates = summarise(table.results, list(table.measures), table.baseline, 1000, 0)
    Summary(baseline=table.baseline, confidence=0.95, resamples=1000, seed=0, estimates=estimates).write(folder)
