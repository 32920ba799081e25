"""The charts of an evaluation: perception against distortion, cases in boxes, and power spectra."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from medsr_monai.evaluation.numbers import Format
from medsr_monai.evaluation.plan import Condition, Method
from medsr_monai.evaluation.record.rows import Estimate
from medsr_monai.evaluation.record.run import EvaluationRun
from medsr_monai.evaluation.report.svg import LETTER_PX, RIGHT, Axis, Plot, shortened
from medsr_monai.metrics.catalogue import Measure

DISTORTION = "psnr"
PERCEPTION = ("perceptual_distance", "gradient_distribution")
ARROWS = {"higher": "higher is better", "lower": "lower is better", "zero": "0 is best"}
COLOURS = 10
PLANE_SIZE = 500, 350
BOX_WIDTH, ROW_PX, LABEL_LETTERS = 350, 25, 20
MOST_NAMED_CASES = 60  # more points of a method are drawn as one path without names
INTERVAL_ROOM = 0.5  # of the means' span on either side, that an interval may take
DIAL = re.compile(r"@[0-9.]+")


def colour(run: EvaluationRun, image: str) -> str:
    """The class that gives an image its colour in every chart; past ten methods colours return, dashed."""
    if image == "hr":
        return "hr"
    index = list(run.table.methods).index(image)
    return f"m{index % COLOURS}" + (" dashed" if index >= COLOURS else "")


def dial_curves(methods: Mapping[str, Method]) -> list[list[str]]:
    """Methods that are one network at several settings of its dial, each group in the dial's order."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for name, method in methods.items():
        base = DIAL.sub("", name)
        if method.kind == "network" and (base in methods or method.perception is not None):
            groups.setdefault(base, []).append((method.perception or 0.0, name))
    return [[name for _, name in sorted(group)] for group in groups.values() if len(group) > 1]


@dataclass(frozen=True)
class _Point:
    name: str
    x: float
    y: float


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(width, 0) * max(height, 0)


def _place_labels(plot: Plot, points: Sequence[_Point]) -> None:
    """Write each name where it covers least: beside, above or below its point."""
    taken = [(p.x - 6, p.y - 6, p.x + 6, p.y + 6) for p in points]
    for point in points:
        text = shortened(point.name, LABEL_LETTERS)
        width, best = LETTER_PX * len(text), None
        for dx, dy, anchor in (
            (9, 4, 0.0), (-9, 4, 1.0), (0, -10, 0.5), (0, 18, 0.5), (7, -8, 0.0), (-7, -8, 1.0), (7, 16, 0.0),
            (-7, 16, 1.0), (0, -24, 0.5), (0, 32, 0.5), (20, -20, 0.0), (-20, -20, 1.0), (20, 28, 0.0), (-20, 28, 1.0),
        ):  # fmt: skip
            left, base = point.x + dx - anchor * width, point.y + dy
            box = (left, base - 10, left + width, base + 3)
            outside = max(plot.left - box[0], box[2] - plot.right, plot.top - box[1], box[3] - plot.bottom, 0)
            cost = sum(_overlap(box, other) for other in taken) + 1000 * outside
            if best is None or cost < best[0]:
                best = (cost, box, base)
        if best is not None:
            taken.append(best[1])
            plot.text(best[1][0], best[2], text, "name", "start")


def perception_measure(run: EvaluationRun, condition: Condition) -> Measure | None:
    """The vertical axis of the plane: a perceptual distance, or without one that of the gradients' distributions."""
    for name in PERCEPTION:
        values = [run.summary.estimates.get((condition.name, method, name)) for method in run.table.methods]
        if name in run.table.measures and any(value is not None and value.mean is not None for value in values):
            return run.table.measures[name]
    return None


def _axis_with_intervals(label: str, estimates: Sequence[Estimate]) -> Axis:
    """An axis over means and intervals; wide intervals leave the picture rather than press the means together."""
    means = [e.mean for e in estimates if e.mean is not None]
    ends = [end for e in estimates for end in (e.low, e.high) if end is not None]
    room = INTERVAL_ROOM * (max(means) - min(means))
    limits = min(means) - room, max(means) + room
    return Axis.over(label, [*means, *(min(max(end, limits[0]), limits[1]) for end in ends)], 0.1)


def draw_plane(run: EvaluationRun, condition: Condition) -> Markup | None:
    """PSNR against a perceptual distance, one point a method, the dial's settings joined; None without both."""
    measure = perception_measure(run, condition)
    if measure is None or DISTORTION not in run.table.measures:
        return None
    found = {}
    for name in run.table.methods:
        across = run.summary.estimates.get((condition.name, name, DISTORTION))
        up = run.summary.estimates.get((condition.name, name, measure.name))
        if across and up and across.mean is not None and up.mean is not None:
            found[name] = (across, up, across.mean, up.mean)
    if not found:
        return None
    psnr = run.table.measures[DISTORTION]
    across_axis = _axis_with_intervals(
        f"{psnr.heading} – {ARROWS[psnr.better]} →", [a for a, _, _, _ in found.values()]
    )
    up_axis = _axis_with_intervals(
        f"← {ARROWS[measure.better]} – {measure.heading}", [u for _, u, _, _ in found.values()]
    )
    plot = Plot(across_axis, up_axis, width=PLANE_SIZE[0], height=PLANE_SIZE[1])
    for curve in dial_curves(run.table.methods):
        points = [(plot.x(found[name][2]), plot.y(found[name][3])) for name in curve if name in found]
        if len(points) > 1:
            plot.line(points, "dial")
    for name, (across, up, x, y) in found.items():
        at = (plot.x(x), plot.y(y))
        numbers = f"{name}: {Format(2)(x)} {psnr.unit}, {Format.of([y])(y)} {measure.unit}".rstrip()
        line = f"{colour(run, name)} interval"
        if across.low is not None and across.high is not None:
            ends = (min(max(plot.x(end), plot.left), plot.right) for end in (across.low, across.high))
            plot.line([(end, at[1]) for end in ends], line)
        if up.low is not None and up.high is not None:
            ends = (min(max(plot.y(end), plot.top), plot.bottom) for end in (up.low, up.high))
            plot.line([(at[0], end) for end in ends], line)
        title = Markup("<title>{}</title>").format(numbers)
        plot.add("circle", title, cx=at[0], cy=at[1], r=5, class_=f"{colour(run, name)} point")
    _place_labels(plot, [_Point(name, plot.x(x), plot.y(y)) for name, (_, _, x, y) in found.items()])
    return plot.svg(
        f"Perception-distortion plane, {condition.name}",
        f"{psnr.heading} against {measure.heading} of {len(found)} methods; the best corner is at the lower right.",
    )


def _draw_box(plot: Plot, values: np.ndarray, middle: float, class_: str) -> None:
    low, median, high = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (high - low)
    ends = values[(values >= low - reach) & (values <= high + reach)]
    whiskers = plot.x(float(ends.min())), plot.x(float(ends.max()))
    plot.line([(whiskers[0], middle), (whiskers[1], middle)], f"{class_} whisker")
    left, right = plot.x(float(low)), plot.x(float(high))
    plot.add("rect", x=left, y=middle - 7, width=max(right - left, 1), height=14, class_=f"{class_} box")
    plot.line([(plot.x(float(median)), middle - 7), (plot.x(float(median)), middle + 7)], f"{class_} median")


def _draw_cases(
    plot: Plot, method: str, cases: list[tuple[str, float]], middle: float, class_: str, write: Callable[[float], str]
) -> None:
    """A point per case, spread a little across the row; each says its case and value, unless there are very many."""
    shifts = [((number * 7) % 5 - 2) * 2.2 if len(cases) > 1 else 0.0 for number in range(len(cases))]
    if len(cases) > MOST_NAMED_CASES:
        path = "".join(
            f"M{plot.x(value):.1f} {middle + shift:.1f}h0" for (_, value), shift in zip(cases, shifts, strict=True)
        )
        plot.add("path", d=path, class_=f"{class_} dots")
        return
    for (case, value), shift in zip(cases, shifts, strict=True):
        title = Markup("<title>{}</title>").format(f"{case}, {method}: {write(value)}")
        plot.add("circle", title, cx=plot.x(value), cy=middle + shift, r=2.6, class_=f"{class_} case")


def draw_boxes(run: EvaluationRun, condition: Condition, measure: Measure) -> Markup | None:
    """Every case a point, a box per method; None where nothing was measured."""
    found: dict[str, list[tuple[str, float]]] = {}
    for row in run.table.results:
        value = row.figures[measure.name]
        if row.condition == condition and value is not None:
            found.setdefault(row.method, []).append((row.case, value))
    if not found:
        return None
    methods = [name for name in run.table.methods if name in found]
    names = [shortened(name, LABEL_LETTERS) for name in methods]
    left = 14 + LETTER_PX * max(map(len, names))
    everything = [value for cases in found.values() for _, value in cases]
    if measure.better == "zero":
        everything.append(0.0)
    label = f"{measure.heading} – {ARROWS[measure.better]}"
    axis = Axis.over(label, everything, may_be_logarithmic=True)
    if LETTER_PX * len(label) > BOX_WIDTH - left - RIGHT:  # a long label would leave the picture
        axis = Axis(measure.heading, axis.low, axis.high, axis.logarithmic)
    plot = Plot(axis, None, width=BOX_WIDTH, height=62 + ROW_PX * len(methods), left=left)
    if measure.better == "zero":
        plot.line([(plot.x(0.0), plot.top), (plot.x(0.0), plot.bottom)], "zero")
    write = Format.of(everything, measure.unit)
    for index, (name, shown) in enumerate(zip(methods, names, strict=True)):
        middle, class_ = plot.top + ROW_PX * (index + 0.6), colour(run, name)
        plot.text(left - 7, middle + 4, shown, "tick", "end")
        values = np.array([value for _, value in found[name]])
        if len(values) > 2:
            _draw_box(plot, values, middle, class_)
        _draw_cases(plot, name, found[name], middle, class_, lambda value: f"{write(value)} {measure.unit}".rstrip())
    return plot.svg(f"{measure.label}, {condition.name}", f"{measure.heading} of every case, {len(methods)} methods.")


def mean_spectra(run: EvaluationRun, condition: Condition) -> dict[str, np.ndarray]:
    """Mean power in dB over the cases, (frequencies,), of HR and the methods; NaN where no case has a value."""
    curves: dict[str, np.ndarray] = {}
    for image in ("hr", *run.table.methods):
        rows = [s.power_db for s in run.spectra.curves if s.condition == condition and s.image == image]
        if rows:
            power = np.array(rows, dtype=float)
            count = np.isfinite(power).sum(axis=0)
            curves[image] = np.where(count > 0, np.nansum(power, axis=0) / np.maximum(count, 1), np.nan)
    return curves


def draw_spectra(run: EvaluationRun, condition: Condition, relative: bool) -> Markup | None:
    """Power in dB against the share of Nyquist; with ``relative`` less that of HR; None where there are no spectra."""
    curves = mean_spectra(run, condition)
    if relative:
        if "hr" not in curves:
            return None
        curves = {name: power - curves["hr"] for name, power in curves.items()}
    finite = np.concatenate([power[np.isfinite(power)] for power in curves.values()]) if curves else np.empty(0)
    if not finite.size or len(run.spectra.frequency) < 2:
        return None
    if relative:  # a method without any power near Nyquist would flatten all others
        finite = np.maximum(finite, -30.0)
    what = "Power relative to HR (dB)" if relative else "Power (dB)"
    plot = Plot(
        Axis("Frequency (share of Nyquist)", 0.0, max(1.0, *run.spectra.frequency)),
        Axis.over(what, map(float, finite), 0.05),
    )
    assert plot.y_axis is not None
    for name in [*(n for n in curves if n != "hr"), *(n for n in curves if n == "hr")]:
        points = [
            (plot.x(f), plot.y(max(float(p), plot.y_axis.low)))
            for f, p in zip(run.spectra.frequency, curves[name], strict=True)
            if np.isfinite(p)
        ]
        plot.content.append(Markup("<g><title>{}</title>").format(name))
        plot.line(points, f"{colour(run, name)} curve")
        plot.content.append(Markup("</g>"))
    return plot.svg(f"{what}, {condition.name}", f"Mean over cases of {', '.join(curves)}.")
