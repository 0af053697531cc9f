"""Plots as inline SVG: lines over two axes, and dots with intervals. Colours are classes, left to the page's style.

Geometry only: a chart is a fixed drawing of `WIDTH` x `HEIGHT` units, which the page scales.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 48, 22, 10, 42
ROW = 26
MAX_TICKS = 6

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to a stretch of the drawing."""

    label: str
    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Where a value is drawn; beyond the ends at the end."""
        low, high, value = (self._scaled(each) for each in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self) -> tuple[float, ...]:
        """Round numbers within the ends; of less than a decade, the linear ones are drawn on a logarithmic axis too."""
        return tuple(each for each in self._round_numbers() if self.low <= each <= self.high)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.is_log else value

    def _round_numbers(self) -> Iterator[float]:
        if self.is_log and self.high >= self.low * 10:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if self.high <= self.low * 10 ** (MAX_TICKS / 3) else (1,)
            yield from (step * 10.0**decade for decade in decades for step in steps)
            return
        step = _round_step((self.high - self.low) / MAX_TICKS)
        yield from (number * step for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1))


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """One line."""

    name: str
    points: Sequence[Point]
    style: int
    """Number of its colour and dashes."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One row of a dot plot."""

    name: str
    value: float
    margin: float | None
    style: int


def line_chart(
    series: Sequence[ChartSeries], *, x_label: str, y_label: str, is_log_x: bool = False, is_log_y: bool = False
) -> str:
    """An SVG element; not-a-number points are left out."""
    drawn = [
        ChartSeries(each.name, [point for point in each.points if _is_drawn(point)], each.style) for each in series
    ]
    points = [point for each in drawn for point in each.points]
    x_axis = _axis(x_label, [x for x, _ in points], LEFT, WIDTH - RIGHT, is_log=is_log_x)
    y_axis = _axis(y_label, [y for _, y in points], HEIGHT - BOTTOM, TOP, is_log=is_log_y)
    lines = (_polyline(each, x_axis, y_axis) for each in drawn if each.points)
    return _svg(f"{y_label} over {x_label}", HEIGHT, (*_x_grid(x_axis, HEIGHT), *_y_grid(y_axis), *lines))


def dot_chart(dots: Sequence[Dot], *, x_label: str, marks: Sequence[tuple[str, float]]) -> str:
    """An SVG element: a row for each dot, and vertical lines with names."""
    height = TOP + BOTTOM + ROW * (len(dots) + len(marks))
    ends = [dot.value + (dot.margin or 0) for dot in dots] + [value for _, value in marks]
    x_axis = _axis(x_label, [0.0, *filter(math.isfinite, ends)], LEFT, WIDTH - RIGHT, is_log=False)
    rows = [_dot(dot, x_axis, TOP + ROW * (len(marks) + index + 0.5)) for index, dot in enumerate(dots)]
    lines = [
        _mark(name, x_axis.at(value), TOP + ROW * (index + 0.5), height) for index, (name, value) in enumerate(marks)
    ]
    return _svg(x_label, height, (*_x_grid(x_axis, height), *lines, *rows))


def number_text(value: float) -> str:
    """Short, as ticks need it: three digits, thousands or millions."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def _is_drawn(point: Point) -> bool:
    return all(map(math.isfinite, point))


def _axis(label: str, values: Sequence[float], start: float, end: float, *, is_log: bool) -> Axis:
    """Wide enough for all values; from 0 on where it is not logarithmic and they come near."""
    values = [value for value in values if value > 0 or not is_log] or [1.0]
    low, high = min(values), max(values)
    if not is_log and 0 < low < high / 2:
        low = 0.0
    if low == high:
        low, high = (low / 2, high * 2) if is_log else (low - 0.5, high + 0.5)
    return Axis(label, low, high, start, end, is_log)


def _round_step(step: float) -> float:
    decade = 10.0 ** math.floor(math.log10(step))
    return next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= step)


def _svg(label: str, height: float, elements: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label={quoteattr(label)}>'
        + "".join(elements)
        + "</svg>"
    )


def _x_grid(axis: Axis, height: float) -> Iterator[str]:
    bottom = height - BOTTOM
    for tick in axis.ticks():
        x = axis.at(tick)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom:g}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{bottom + 14:g}" text-anchor="middle">{number_text(tick)}</text>'
    middle = (axis.start + axis.end) / 2
    yield f'<text class="label" x="{middle:g}" y="{height - 6:g}" text-anchor="middle">{escape(axis.label)}</text>'


def _y_grid(axis: Axis) -> Iterator[str]:
    for tick in axis.ticks():
        y = axis.at(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{number_text(tick)}</text>'
    middle = (axis.start + axis.end) / 2
    yield (
        f'<text class="label" transform="translate(11 {middle:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(axis.label)}</text>"
    )


def _polyline(series: ChartSeries, x_axis: Axis, y_axis: Axis) -> str:
    places = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in series.points)
    return f'<polyline class="line s{series.style}" points="{places}"><title>{escape(series.name)}</title></polyline>'


def _dot(dot: Dot, axis: Axis, y: float) -> str:
    x, margin = axis.at(dot.value), dot.margin or 0.0
    low, high = axis.at(dot.value - margin), axis.at(dot.value + margin)
    before, place = (True, x - 8) if x > (axis.start + axis.end) / 2 else (False, x + 8)
    anchor = "end" if before else "start"
    name = f"{dot.name} {number_text(dot.value)}"
    return (
        f'<line class="line s{dot.style}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:g}" y2="{y:g}"/>'
        f'<circle class="dot s{dot.style}" cx="{x:.1f}" cy="{y:g}" r="4"/>'
        f'<text class="name" x="{place:.1f}" y="{y - 5 if dot.margin else y + 4:g}" text-anchor="{anchor}">'
        f"{escape(name)}</text>"
    )


def _mark(name: str, x: float, y: float, height: float) -> str:
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM:g}"/>'
        f'<text class="name" x="{x - 4:.1f}" y="{y:g}" text-anchor="end">{escape(name)}</text>'
    )
