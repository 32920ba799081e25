"""The charts of an evaluation: perception against distortion, cases in boxes, and power spectra."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import Bbox, IdentityTransform
from numpy.typing import ArrayLike

from medsr_monai.evaluation.numbers import Format, scientific
from medsr_monai.evaluation.plan import Condition, Method
from medsr_monai.evaluation.record.tables import EvaluationRun
from medsr_monai.metrics.catalogue import Measure

DISTORTION = "psnr"
PERCEPTION = ("perceptual_distance", "gradient_distribution")
ARROWS = {"higher": "higher is better", "lower": "lower is better", "zero": "0 is best"}
COLOURS = 10
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 46
BOX_WIDTH, ROW_PX, LABEL_LETTERS = 350, 25, 20
LETTER_PX = 6.4  # mean width of a letter at the charts' 11.5 px
LOGARITHMIC_FROM = 1e3
MOST_NAMED_CASES = 60  # more points of a method are drawn as one path without names
INTERVAL_ROOM = 0.5  # of the means' span on either side, that an interval may take
LOWEST_DB = -30.0
DIAL = re.compile(r"@[0-9.]+")
SVG = "{http://www.w3.org/2000/svg}"
PLACES = (
    (9, -4, 0.0), (-9, -4, 1.0), (0, 10, 0.5), (0, -18, 0.5), (7, 8, 0.0), (-7, 8, 1.0), (7, -16, 0.0),
    (-7, -16, 1.0), (0, 24, 0.5), (0, -32, 0.5), (20, 20, 0.0), (-20, 20, 1.0), (20, -28, 0.0), (-20, -28, 1.0),
)  # fmt: skip
"""Where a name may stand: pixels from its point, and the share of its width that lies to the left of there."""


def colour(run: EvaluationRun, image: str) -> str:
    """The class that gives an image its colour in every chart; past ten methods colours return, dashed."""
    if image == "hr":
        return "hr"
    index = list(run.table.methods).index(image)
    return f"m{index % COLOURS}" + (" dashed" if index >= COLOURS else "")


def _written(text: str, letters: int = 200) -> str:
    """A text as XML can hold it, not too long."""
    text = "".join(letter if letter.isprintable() else "�" for letter in text)
    return text if len(text) <= letters else text[: letters - 1] + "…"


class _Chart:
    """Axes in a frame, in pixels. The page's style sheet colours what is drawn, by its class."""

    def __init__(self, x_label: str, y_label: str = "", size: tuple[float, float] = (420, 310), left: float = LEFT):
        width, height = size
        self.figure = Figure((width / 72, height / 72), dpi=72)
        place = (left / width, BOTTOM / height, (width - left - RIGHT) / width, (height - TOP - BOTTOM) / height)
        self.axes = self.figure.add_axes(place)
        self.titles: dict[str, Sequence[str]] = {"grid": (), "axis": (), "label": (), "name": ()}
        self.axes.set_xlabel(_written(x_label), gid="label", labelpad=9)
        self.axes.set_ylabel(_written(y_label), gid="label", labelpad=12)
        for axis in (self.axes.xaxis, self.axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            axis.set_major_formatter(lambda value, _: f"{value:.6g}".replace("-", "−"))
        self.axes.tick_params(length=0, pad=7, left=False, bottom=False)
        self.axes.grid(True, axis="both" if y_label else "x", gid="grid")
        self.axes.spines[["top", "right"] if y_label else ["top", "right", "left"]].set_visible(False)
        self.axes.spines[["bottom", "left"]].set_gid("axis")
        for patch in (self.figure.patch, self.axes.patch):
            patch.set_visible(False)

    def draw(self, x: ArrayLike, y: ArrayLike, class_: str, titles: Sequence[str] = (), dot: float = 0) -> None:
        """A line, or dots of a diameter; a title for each of the dots, or one for the line."""
        key = f"{class_}#{len(self.titles)}"
        self.titles[key] = titles
        self.axes.plot(x, y, "o" if dot else "-", markersize=dot, gid=key, clip_on=not dot)

    def name(self, names: Sequence[str], points: np.ndarray) -> None:
        """Write each name where it covers least: beside, above or below its point (x, y) in pixels."""
        taken = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in points]

        def cost(box: Bbox) -> float:
            outside = box.width * box.height - _common_area(box, self.axes.bbox)
            return sum(_common_area(box, other) for other in taken) + 1000 * outside

        for name, (x, y) in zip((_written(name, LABEL_LETTERS) for name in names), points, strict=True):
            width = LETTER_PX * len(name)
            places = [Bbox.from_bounds(x + dx - share * width, y + dy - 3, width, 13) for dx, dy, share in PLACES]
            taken.append(min(places, key=cost))
            self.axes.text(taken[-1].x0, taken[-1].y0 + 3, name, transform=IdentityTransform(), gid="name")

    def svg(self, title: str, description: str) -> Markup:
        """The chart, named and described for those who cannot see it."""
        file = io.StringIO()
        style: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "path.simplify": False, "text.parse_math": False}
        with rc_context(style):
            self.figure.savefig(file, format="svg")
        root = ElementTree.fromstring(file.getvalue().replace("xlink:href", "href"))
        for child in root.findall(f"{SVG}metadata") + root.findall(f"{SVG}defs[{SVG}style]"):
            root.remove(child)
        for group in root.iter(f"{SVG}g"):
            key = group.attrib.pop("id", "")
            for text in group.iter(f"{SVG}text"):
                text.set("class", key if key in self.titles else "tick")
            if key in self.titles:
                group.set("class", key.partition("#")[0])
                for shape in (shape for shape in group.iter() if shape.tag != f"{SVG}text"):
                    shape.attrib.pop("style", None)
                titles = self.titles[key]
                for place, words in zip([*group.iter(f"{SVG}use")] or [group], titles, strict=bool(titles)):
                    ElementTree.SubElement(place, f"{SVG}title").text = words
        for element in root.iter():
            if element.tag == f"{SVG}text":
                anchor = re.search(r"text-anchor: (\w+)", element.attrib.pop("style", ""))
                element.set("text-anchor", anchor[1] if anchor else "start")
            for name in element.attrib.keys() & {"d", "x", "y", "transform"}:
                element.set(name, re.sub(r"(\.\d)\d+", r"\1", element.attrib[name]))
        named = {"role": "img", "class": "chart", "aria-label": f"{title}. {description}"}
        root.attrib = {"viewBox": root.attrib["viewBox"], **named}
        for tag, words in (("desc", description), ("title", title)):
            root.insert(0, ElementTree.Element(f"{SVG}{tag}"))
            root[0].text = words
        ElementTree.register_namespace("", SVG[1:-1])
        return Markup(re.sub(r"\s*\n\s*", "", ElementTree.tostring(root, encoding="unicode")))


def _common_area(box: Bbox, other: Bbox) -> float:
    common = Bbox.intersection(box, other)
    return common.width * common.height if common else 0.0


def dial_curves(methods: Mapping[str, Method]) -> list[list[str]]:
    """Methods that are one network at several settings of its dial, each group in the dial's order."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for name, method in methods.items():
        base = DIAL.sub("", name)
        if method.kind == "network" and (base in methods or method.perception is not None):
            groups.setdefault(base, []).append((method.perception or 0.0, name))
    return [[name for _, name in sorted(group)] for group in groups.values() if len(group) > 1]


def perception_measure(run: EvaluationRun, condition: Condition) -> Measure | None:
    """The vertical axis of the plane: a perceptual distance, or without one that of the gradients' distributions."""
    for measure in (run.table.measures.get(name) for name in PERCEPTION):
        if measure is not None and run.estimates(condition, measure):
            return measure
    return None


def _limits(means: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """Ends of an axis over means and intervals; wide intervals leave the picture, so that means stay apart."""
    room = INTERVAL_ROOM * np.ptp(means)
    shown = np.concatenate([means, np.clip(ends[np.isfinite(ends)], means.min() - room, means.max() + room)])
    margin = 0.1 * np.ptp(shown) or 0.05 * abs(shown.max()) or 1.0
    return float(shown.min() - margin), float(shown.max() + margin)


def draw_plane(run: EvaluationRun, condition: Condition) -> Markup | None:
    """PSNR against a perceptual distance, one point a method, the dial's settings joined; None without both."""
    up, across = perception_measure(run, condition), run.table.measures.get(DISTORTION)
    if up is None or across is None:
        return None
    estimates = [run.estimates(condition, measure) for measure in (across, up)]
    found = {name: [one[name] for one in estimates] for name in estimates[0] if name in estimates[1]}
    if not found:
        return None
    # (methods, axes, 3): mean, low, high
    values = np.array([[(e.mean, e.low, e.high) for e in pair] for pair in found.values()], dtype=float)
    means = dict(zip(found, values[..., 0], strict=True))
    labels = f"{across.heading} – {ARROWS[across.better]} →", f"← {ARROWS[up.better]} – {up.heading}"
    chart = _Chart(*labels, size=(500, 350))
    chart.axes.set(xlim=_limits(values[:, 0, 0], values[:, 0, 1:]), ylim=_limits(values[:, 1, 0], values[:, 1, 1:]))
    for curve in dial_curves(run.table.methods):
        points = [means[name] for name in curve if name in found]
        if len(points) > 1:
            x, y = np.transpose(points)
            chart.draw(x, y, "dial")
    for name, (horizontal, vertical) in zip(found, values, strict=True):
        x, y = means[name]
        chart.draw(horizontal[1:], [y, y], f"{colour(run, name)} interval")
        chart.draw([x, x], vertical[1:], f"{colour(run, name)} interval")
        title = f"{name}: {Format(2)(x)} {across.unit}, {Format.of([y])(y)} {up.unit}".rstrip()
        chart.draw([x], [y], f"{colour(run, name)} point", [title], dot=10)
    chart.name(list(found), chart.axes.transData.transform(values[..., 0]))
    return chart.svg(
        f"Perception-distortion plane, {condition.name}",
        f"{across.heading} against {up.heading} of {len(found)} methods; the best corner is at the lower right.",
    )


def _draw_box(chart: _Chart, values: np.ndarray, row: int, class_: str) -> None:
    low, median, high = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (high - low)
    ends = values[(values >= low - reach) & (values <= high + reach)]
    half = 7 / ROW_PX
    chart.draw([ends.min(), ends.max()], [row, row], f"{class_} whisker")
    chart.draw(
        [low, high, high, low, low], [row - half, row - half, row + half, row + half, row - half], f"{class_} box"
    )
    chart.draw([median, median], [row - half, row + half], f"{class_} median")


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
    names = [_written(name, LABEL_LETTERS) for name in methods]
    left = 14 + LETTER_PX * max(map(len, names))
    label = f"{measure.heading} – {ARROWS[measure.better]}"
    if LETTER_PX * len(label) > BOX_WIDTH - left - RIGHT:  # a long label would leave the picture
        label = measure.heading
    chart = _Chart(label, size=(BOX_WIDTH, TOP + BOTTOM + ROW_PX * len(methods)), left=left)
    chart.axes.set(ylim=(len(methods) - 0.5, -0.5), yticks=range(len(methods)), yticklabels=names)
    chart.axes.margins(x=0.06)
    everything = [value for cases in found.values() for _, value in cases]
    if measure.better == "zero":
        chart.draw([0, 0], [-0.5, len(methods) - 0.5], "zero")
    elif min(everything) > 0 and max(everything) >= LOGARITHMIC_FROM * min(everything):
        chart.axes.set_xscale("log")
        chart.axes.xaxis.set_minor_locator(NullLocator())
        chart.axes.xaxis.set_major_formatter(lambda value, _: scientific(value).removeprefix("1.0×"))
    write = Format.of([*everything, *([0.0] if measure.better == "zero" else [])], measure.unit)
    for index, name in enumerate(methods):
        class_, values = colour(run, name), np.array([value for _, value in found[name]])
        if len(values) > 2:
            _draw_box(chart, values, index, class_)
        shifts = (np.arange(len(values)) * 7 % 5 - 2) * 2.2 / ROW_PX * (len(values) > 1)
        if len(values) > MOST_NAMED_CASES:
            x, y = np.stack([values, values, values * np.nan], 1), np.stack([index + shifts] * 3, 1)
            chart.draw(x.ravel(), y.ravel(), f"{class_} dots")
        else:
            titles = [f"{case}, {name}: {write(value)} {measure.unit}".rstrip() for case, value in found[name]]
            chart.draw(values, index + shifts, f"{class_} case", titles, dot=5.2)
    return chart.svg(f"{measure.label}, {condition.name}", f"{measure.heading} of every case, {len(methods)} methods.")


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
        # A method without any power near Nyquist would flatten all others.
        curves = {name: np.maximum(power - curves["hr"], LOWEST_DB) for name, power in curves.items() if "hr" in curves}
    frequency = run.spectra.frequency
    if len(frequency) < 2 or not any(np.isfinite(power).any() for power in curves.values()):
        return None
    what = "Power relative to HR (dB)" if relative else "Power (dB)"
    chart = _Chart("Frequency (share of Nyquist)", what)
    chart.axes.set_xlim(0, max(1.0, *frequency))
    for name in sorted(curves, key="hr".__eq__):
        chart.draw(frequency, curves[name], f"{colour(run, name)} curve", [name])
    return chart.svg(f"{what}, {condition.name}", f"Mean over cases of {', '.join(curves)}.")
