"""A small folder as ``medsr evaluate`` writes it, made up: what the readers of such folders are tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MEASURES = {
    "psnr": ("PSNR", "dB", "higher"),
    "ssim": ("SSIM", "", "higher"),
    "gradient_distribution": ("Gradient distribution", "", "lower"),
    "perceptual_distance": ("Perceptual distance", "", "lower"),
    "consistency_max": ("Consistency, maximum", "share of range", "lower"),
    "consistency_rms": ("Consistency, RMS", "share of range", "lower"),
    "bias": ("Bias", "share of range", "zero"),
}
METHODS = {
    "linear": ("linear", "classic", None, 24.0),
    "cubic": ("cubic B-spline", "classic", None, 25.0),
    "cubic+exact": ("cubic B-spline, exactly consistent", "classic", None, 25.4),
    "sr": ("network", "network", 0.0, 28.0),
    "sr@0.5": ("network, perception 0.5", "network", 0.5, 27.4),
    "sr@1": ("network, perception 1", "network", 1.0, 26.4),
}
SPACING_MM = (1.0, 1.2, 1.5)
PLANE_AXES = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}  # across, up


@dataclass(frozen=True)
class Layout:
    """How large a made-up run is."""

    cases: Sequence[str] = ("s1_a", "s1_b", "s2", "s3")
    subjects: Sequence[str] = ("s1", "s1", "s2", "s3")
    conditions: Sequence[tuple[str, float]] = (("box", 0.0), ("gaussian", 0.02))
    without: Sequence[str] = ()  # measures that the run has not
    shape: tuple[int, int, int] = (24, 20, 16)
    pictures: int = 2
    slices: int = 6


def _row(case: str, subject: str, condition: tuple[str, float], method: str, measures: Any, rng: Any) -> dict[str, Any]:
    psnr = METHODS[method][3] + rng.normal(0, 0.6) - 40 * condition[1]
    perception = METHODS[method][2] or 0.0
    values = {
        "psnr": psnr,
        "ssim": 1 - 10 ** (-psnr / 30),
        "gradient_distribution": 0.3 - 0.1 * perception - (0.1 if method[:2] == "sr" else 0),
        "perceptual_distance": 0.4 - 0.2 * perception - (0.1 if method[:2] == "sr" else 0) + rng.normal(0, 0.01),
        "consistency_max": 3e-7 if method == "cubic+exact" or method[:2] == "sr" else 0.2,
        "consistency_rms": 5e-8 if method == "cubic+exact" or method[:2] == "sr" else 0.02,
        "bias": rng.normal(0, 0.001),
    }
    degradation, noise = condition
    return {
        "case": case,
        "subject": subject,
        "degradation": degradation,
        "noise": noise,
        "condition": f"{degradation}_noise{noise:g}",
        "method": method,
        **{name: float(values[name]) for name in measures},
        "seconds": 1.5,
        "peak_mib": 300.0,
    }


def _summary_row(rows: list[dict[str, Any]], condition: str, method: str, measure: str) -> dict[str, Any]:
    """Means over subjects; the intervals are made up, but there are none of a single subject."""

    def by_subject(name: str) -> dict[str, float]:
        of = [r for r in rows if r["condition"] == condition and r["method"] == name and r[measure] is not None]
        return {s: float(np.mean([r[measure] for r in of if r["subject"] == s])) for s in {r["subject"] for r in of}}

    mine, base = by_subject(method), by_subject("cubic")
    mean = float(np.mean(list(mine.values()))) if mine else None
    difference = float(np.mean([mine[s] - base[s] for s in mine])) if mine and mine.keys() <= base.keys() else None
    spread = 0.1 * abs(mean) if mean is not None and len(mine) > 1 else None
    first = next(r for r in rows if r["condition"] == condition)
    return {
        "condition": condition,
        "degradation": first["degradation"],
        "noise": first["noise"],
        "method": method,
        "measure": measure,
        "n_cases": sum(r["condition"] == condition and r["method"] == method for r in rows),
        "n_subjects": len(mine),
        "mean": mean,
        "low": None if spread is None else mean - spread,
        "high": None if spread is None else mean + spread,
        "difference": difference,
        "difference_low": None if spread is None or difference is None else difference - 0.1 * abs(difference),
        "difference_high": None if spread is None or difference is None else difference + 0.1 * abs(difference),
    }


def summarise(rows: list[dict[str, Any]], measures: Sequence[str]) -> list[dict[str, Any]]:
    keys = dict.fromkeys((row["condition"], row["method"]) for row in rows)
    return [_summary_row(rows, condition, method, measure) for condition, method in keys for measure in measures]


def phantom(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """A bright ellipsoid with texture inside, about 0 to 1."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    inside = (x**2 + y**2 + z**2) < 0.7
    return inside * (0.6 + 0.3 * np.sin(6 * x) * np.cos(5 * y) + 0.1 * rng.random(tuple(shape)))


def _pictures(image: np.ndarray, stack_slices: Sequence[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    planes = {}
    for name in PLANE_AXES:
        normal = ("sagittal", "coronal", "axial").index(name)
        planes[name] = np.take(image, image.shape[normal] // 2, axis=normal).T[::-1, ::-1].astype(np.float16)
    stack = np.stack([np.take(image, i, axis=2).T[::-1, ::-1] for i in stack_slices])
    return planes, np.round(255 * np.clip(stack, 0, 1)).astype(np.uint8)


def write_view(path: Path, case: str, condition: str, layout: Layout, rng: np.random.Generator) -> None:
    hr = phantom(layout.shape, rng)
    lr = hr.reshape(*(m for n in layout.shape for m in (n // 2, 2))).mean(axis=(1, 3, 5))
    images = {"lr": lr, "hr": hr}
    images |= {name: hr + (30 - METHODS[name][3]) * 0.01 * rng.normal(size=hr.shape) for name in METHODS}
    arrays = {}
    chosen = np.linspace(0, layout.shape[2] - 1, layout.slices).astype(int)
    for name, image in images.items():
        planes, stack = _pictures(image, chosen // 2 if name == "lr" else chosen)
        arrays |= {f"plane/{name}/{plane}": picture for plane, picture in planes.items()}
        arrays[f"stack/{name}"] = stack
    meta = {
        "case": case,
        "condition": condition,
        "spacing_mm": SPACING_MM,
        "lr_spacing_mm": [2 * mm for mm in SPACING_MM],
        "window": [0.0, 1.0],
        "planes": list(PLANE_AXES),
        "stack_plane": "axial",
        "stack_positions_mm": [float(i * SPACING_MM[2]) for i in chosen],
        "images": list(images),
    }
    np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content))


def write_run(folder: Path, layout: Layout | None = None) -> Path:
    """Write a whole folder of an evaluation.

    Args:
        folder: made where it is missing.
        layout: how large it is.

    Returns:
        The folder.
    """
    layout = layout or Layout()
    rng = np.random.default_rng(5)
    measures = [name for name in MEASURES if name not in layout.without]
    rows = [
        _row(case, subject, condition, method, measures, rng)
        for condition in layout.conditions
        for case, subject in zip(layout.cases, layout.subjects, strict=True)
        for method in METHODS
    ]
    conditions = [{"name": f"{d}_noise{n:g}", "degradation": d, "noise": n} for d, n in layout.conditions]
    table = {
        "format": "medsr-evaluation",
        "version": 1,
        "baseline": "cubic",
        "scale": [2.0, 2.0, 2.0],
        "conventions": ["1 is the 99.5th percentile of HR"],
        "measures": {
            name: dict(
                zip(("label", "unit", "better"), MEASURES[name], strict=True), name=name, definition=f"what {name} is"
            )
            for name in measures
        },
        "methods": {
            n: {"name": n, "label": m[0], "kind": m[1], "perception": m[2], "consistency": "none"}
            for n, m in METHODS.items()
        },
        "conditions": conditions,
        "rows": rows,
    }
    (folder / "views").mkdir(parents=True, exist_ok=True)
    _write(folder / "cases.json", table)
    summary = {"baseline": "cubic", "confidence": 0.95, "resamples": 1000, "seed": 0}
    _write(folder / "summary.json", {**summary, "rows": summarise(rows, measures), "sets": []})
    frequency = [float(f) for f in np.linspace(0.02, 1, 30)]
    curves = [
        {
            "case": case,
            "condition": condition["name"],
            "image": image,
            "power_db": [-30 * f - (0 if image == "hr" else 60 / METHODS[image][3] * f**2) for f in frequency],
        }
        for case in layout.cases
        for condition in conditions
        for image in ("hr", *METHODS)
    ]
    _write(folder / "spectra.json", {"frequency": frequency, "rows": curves})
    manifest = {
        "status": "completed",
        "bundle": {"name": "toy_bundle", "version": "0.3.0"},
        "settings": {"hr": "data/Doe_Jane/scans", "noise": [0, 0.02], "methods": list(METHODS)},
        "weights": {"model.pt": "3b1f" * 16},
        "versions": {"torch": "2.13.0", "medsr-monai": "0.1.0"},
        "device": "cpu",
        "seconds": 12.5,
    }
    _write(folder / "run.json", manifest)
    for number, case in enumerate(layout.cases[: layout.pictures]):
        name = conditions[0]["name"]
        write_view(folder / "views" / f"case{number}.{name}.npz", case, name, layout, rng)
    return folder
