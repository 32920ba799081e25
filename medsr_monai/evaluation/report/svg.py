"""Charts as inline SVG: elements whose text is escaped, axes with ticks, and a frame to draw in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medsr_monai.evaluation.numbers import scientific

WIDTH, HEIGHT = 420, 310
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 46
LETTER_PX = 6.4  # mean width of a letter at the charts' 11.5 px
LOGARITHMIC_FROM = 1e3


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """An element; text and attributes are escaped unless they are Markup. ``class_`` is class, ``_`` becomes ``-``."""
    written = Markup("").join(
        Markup(' {}="{}"').format(
            name.rstrip("_").replace("_", "-"), f"{value:.2f}" if isinstance(value, float) else value
        )
        for name, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, written, Markup("").join(content))


def shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


@dataclass(frozen=True)
class Axis:
    """A scale with its label; a logarithmic one holds only positive values."""

    label: str
    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def over(cls, label: str, values: Iterable[float], margin: float = 0.06, may_be_logarithmic: bool = False) -> Axis:
        """An axis that spans the values and a little more."""
        values = list(values)
        low, high = min(values), max(values)
        if may_be_logarithmic and low > 0 and high / low >= LOGARITHMIC_FROM:
            room = (high / low) ** margin
            return cls(label, low / room, high * room, True)
        room = margin * (high - low) or abs(high) * 0.05 or 1.0
        return cls(label, low - room, high + room)

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Round values within the axis, and how they are written."""
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            step = max(1, math.ceil((last - first) / count))
            exponents = range(first, last + 1, step)
            return [(10.0**e, scientific(10.0**e).removeprefix("1.0×")) for e in exponents]
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        apart = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
        first, last = math.ceil(self.low / apart - 1e-9), math.floor(self.high / apart + 1e-9)
        return [(i * apart, f"{i * apart:.6g}".replace("-", "−")) for i in range(first, last + 1)]


class Plot:
    """A frame with a horizontal axis and, unless the rows are named by the caller, a vertical one."""

    def __init__(self, x: Axis, y: Axis | None, width: float = WIDTH, height: float = HEIGHT, left: float = LEFT):
        self.x_axis, self.y_axis, self.width, self.height, self.left = x, y, width, height, left
        self.right, self.top, self.bottom = width - RIGHT, TOP, height - BOTTOM
        self.content: list[Markup] = []
        self._draw_x()
        if y is not None:
            self._draw_y(y)

    def x(self, value: float) -> float:
        return self.left + self.x_axis.share(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        if self.y_axis is None:
            raise ValueError("the plot has no vertical scale")
        return self.bottom - self.y_axis.share(value) * (self.bottom - self.top)

    def add(self, tag: str, *content: str, **attributes: object) -> None:
        self.content.append(element(tag, *content, **attributes))

    def text(self, x: float, y: float, text: str, class_: str, anchor: str = "middle", **attributes: object) -> None:
        self.add("text", text, x=x, y=y, class_=class_, text_anchor=anchor, **attributes)

    def line(self, points: Sequence[tuple[float, float]], class_: str, **attributes: object) -> None:
        """A polyline through points in pixels."""
        self.add("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_, **attributes)

    def svg(self, title: str, description: str) -> Markup:
        """The chart, named and described for those who cannot see it."""
        return element(
            "svg",
            element("title", title),
            element("desc", description),
            *self.content,
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img",
            class_="chart",
            aria_label=f"{title}. {description}",
        )

    def _draw_x(self) -> None:
        for value, text in self.x_axis.ticks():
            at = self.x(value)
            self.line([(at, self.top), (at, self.bottom)], "grid")
            self.text(at, self.bottom + 16, text, "tick")
        self.line([(self.left, self.bottom), (self.right, self.bottom)], "axis")
        self.text((self.left + self.right) / 2, self.height - 8, self.x_axis.label, "label")

    def _draw_y(self, axis: Axis) -> None:
        for value, text in axis.ticks():
            at = self.y(value)
            self.line([(self.left, at), (self.right, at)], "grid")
            self.text(self.left - 7, at + 4, text, "tick", "end")
        self.line([(self.left, self.top), (self.left, self.bottom)], "axis")
        x, y = 14, (self.top + self.bottom) / 2
        self.text(x, y, axis.label, "label", transform=f"rotate(-90 {x} {y:.1f})")
