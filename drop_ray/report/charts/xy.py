"""The one chart of every curve: points with intervals, lines or bars on two axes, and what they are compared with.

A section says in data what is drawn; scales, places and labels are found here. Looks are classes of style.css.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from markupsafe import Markup

from drop_ray.evaluation.estimates import Estimate
from drop_ray.report import blocks
from drop_ray.report.charts.axes import Scale, fit, x_axis, y_axis
from drop_ray.report.charts.labels import LABEL_CHARACTER, LABEL_HEIGHT, LABEL_MARGIN, end_labels, names_beside
from drop_ray.report.charts.svg import Place, Shape, figure, group, label, line, marker, markup, polyline, rectangle

LEFT, TOP, RIGHT, BOTTOM, TITLE = 48.0, 42.0, 14.0, 26.0, 20.0
TICK_ROOM = 24.0
"""Pixels between a tick and an optional one."""
BAR_SHARE, DODGE_SHARE, DODGE_ROOM, DODGE = 0.36, 0.6, 24.0, 4.0
"""Parts of the room between two values of x that half a bar and all marks of one x take; most pixels of the latter, and
between two."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Point:
    """One mark."""

    x: float
    """In data."""
    y: float
    """In data; what is infinite stands on the frame's edge."""
    tooltip: str
    """Shown under the pointer."""
    interval: Interval | None = None
    """Ends of a vertical bar."""
    x_interval: Interval | None = None
    """Ends of a horizontal bar."""
    css: str = "point"
    """Class of the mark."""
    shape: Shape | None = None
    """Where it is not the curve's."""
    ring: bool = False
    """Whether a ring stands around it."""
    name: str = ""
    """Written beside the mark where there is room."""
    bold: bool = False
    """Whether the name is written in bold, and even where it covers marks."""


@dataclass(frozen=True)
class Curve:
    """Points that look alike, and the lines that go with them."""

    css: str
    """Class of all of it."""
    shape: Shape
    """Of the marks."""
    points: Sequence[Point] = ()
    """In order of drawing."""
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]] = ()
    """Class and places in data of each line."""
    label: str = ""
    """Written right of the frame, if at all."""
    end: tuple[float, float] | None = None
    """Where in data the label points to."""
    bars: bool = False
    """Bars from zero in place of marks."""
    radius: float = 4.0
    """Of the marks, in pixels."""


@dataclass(frozen=True)
class Axis:
    """One direction."""

    title: str = ""
    """What is measured."""
    values: Sequence[float] | None = None
    """What must be within the frame, where that is not all that is drawn."""
    ends: Interval | None = None
    """Exactly what the frame spans."""
    log: bool = False
    """Logarithmic: where values span more than 10x; always, if there are `ends`."""
    from_zero: bool = False
    """Whether zero is within the frame."""
    ticks: Sequence[float] | None = None
    """Where ticks are, in place of round numbers."""
    more_ticks: Sequence[float] = ()
    """Further ones where there is room."""

    def scale(self, drawn: Iterable[float], start: float, stop: float) -> Scale:
        """From data to pixels. ValueError without a finite value."""
        if self.ends is not None:
            return Scale(*self.ends, start, stop, log=self.log)
        values = drawn if self.values is None else self.values
        return fit(values, start, stop, from_zero=self.from_zero, allow_log=self.log)


@dataclass(frozen=True)
class XyChart:
    """All that one drawing shows."""

    name: str
    """Its id, unique within the page."""
    title: str
    """Above the drawing."""
    subtitle: str
    """Below the title: mostly what y is."""
    description: str
    """The drawing in a sentence, for readers who cannot see it."""
    x: Axis
    """From left to right."""
    y: Axis
    """Upwards."""
    curves: Sequence[Curve]
    """In order of drawing."""
    size: tuple[float, float]
    """Width and least height, in pixels."""
    level: Estimate | None = None
    """Height of a line to compare with, its error shaded around it."""
    level_tooltip: str | None = None
    """What it is."""
    upright: float | None = None
    """Place of a vertical line to compare with."""
    picked: Sequence[Interval] = ()
    """Shaded columns."""
    dodge: bool = False
    """Whether marks of one x stand side by side, so that they can be told apart."""
    css: str = ""
    """Class of the title."""


def charts(found: Iterable[XyChart | None], in_text: Sequence[blocks.Block] = ()) -> list[blocks.Chart]:
    """Blocks of those that have something to draw."""
    return [blocks.Chart(drawing, in_text) for chart in found if chart and (drawing := xy_chart(chart))]


def xy_chart(chart: XyChart) -> Markup | None:
    """The drawing; None where there is no finite value to draw."""
    points = [point for curve in chart.curves for point in curve.points]
    level = [] if chart.level is None else [(chart.level.value, chart.level.bounds())]
    heights = [*level, *((point.y, point.interval) for point in points)]
    if not any(math.isfinite(height) for height, _ in heights):
        return None
    heights += [(y, None) for curve in chart.curves for _, places in curve.lines for _, y in places]
    labels = [curve for curve in chart.curves if curve.label and curve.end is not None]
    bottom = BOTTOM + (TITLE if chart.x.title else 0.0)
    width, height = chart.size[0], max(chart.size[1], len(labels) * LABEL_HEIGHT + TOP + bottom)
    longest = max((len(curve.label) for curve in labels), default=0)
    right = LABEL_MARGIN + LABEL_CHARACTER * longest if labels else RIGHT
    x = chart.x.scale(_bounds((point.x, point.x_interval) for point in points), LEFT, width - right)
    y = chart.y.scale(_bounds(heights), height - bottom, TOP)
    root = figure(chart.name, chart.title, chart.description, width, height)
    label(root, (0, 14), chart.title, f"chart-title {chart.css}".rstrip())
    label(root, (0, 30), chart.subtitle, "note")
    for start, stop in chart.picked:
        rectangle(root, (x(start), y.stop), (x(stop) - x(start), y.start - y.stop), "picked")
    y_axis(root, y, x.start, x.stop)
    x_axis(root, x, _ticks(chart.x, x), y.start, chart.x.title)
    _draw_comparison(root, chart, x, y)
    spacing = _spacing(chart, x)
    for index, curve in enumerate(chart.curves):
        _draw_curve(root, curve, x, y, spacing * (index - (len(chart.curves) - 1) / 2))
    ends = [((x(end[0]), y(end[1])), curve.css, curve.shape, curve.label) for curve in labels if (end := curve.end)]
    end_labels(root, ends, x, y)
    marks = [((x(one.x), y(one.y)), curve.css, one.name, one.bold) for curve in chart.curves for one in curve.points]
    names_beside(root, marks, (x.start, y.stop, x.stop, y.start), [*_straight(chart, x, y)])
    return markup(root)


def _straight(chart: XyChart, x: Scale, y: Scale) -> Iterator[tuple[Place, Place]]:
    """The vertical bars of marks, and what of the lines is horizontal or vertical: names keep off them."""
    for curve in chart.curves:
        for point in curve.points:
            if point.interval is not None and math.isfinite(sum(point.interval)):
                low, high = point.interval
                yield (x(point.x), y(low)), (x(point.x), y(high))
        for _, places in curve.lines:
            for before, after in pairwise(places):
                if before[0] == after[0] or before[1] == after[1]:
                    yield (x(before[0]), y(before[1])), (x(after[0]), y(after[1]))


def _bounds(values: Iterable[tuple[float, Interval | None]]) -> Iterable[float]:
    """What a frame must hold of points; an interval that reaches zero or below would make a logarithm impossible."""
    for value, interval in values:
        if math.isfinite(value):
            yield value
            for bound in interval or ():
                yield bound if bound > 0 or value <= 0 else value


def _ticks(axis: Axis, scale: Scale) -> list[float]:
    ticks = scale.ticks() if axis.ticks is None else [*axis.ticks]
    for tick in sorted(axis.more_ticks):
        if all(abs(scale(tick) - scale(other)) >= TICK_ROOM for other in ticks):
            ticks.append(tick)
    return ticks


def _draw_comparison(root: Element, chart: XyChart, x: Scale, y: Scale) -> None:
    if chart.level is not None:
        base = group(root, "base", chart.level_tooltip)
        if bounds := chart.level.bounds():
            low, high = map(y, bounds)
            rectangle(base, (x.start, high), (x.stop - x.start, low - high), "band")
        line(base, (x.start, y(chart.level.value)), (x.stop, y(chart.level.value)), "base-line")
    if chart.upright is not None:
        line(root, (x(chart.upright), y.start), (x(chart.upright), y.stop), "base-line")


def _spacing(chart: XyChart, x: Scale) -> float:
    """Pixels between neighbours of one x: all of them stay nearer to it than to the next, and within the frame."""
    if not chart.dodge or not chart.curves:
        return 0.0
    places = sorted({x(point.x) for curve in chart.curves for point in curve.points})
    room = min((after - before for before, after in pairwise(places)), default=math.inf)
    return min(DODGE, min(DODGE_ROOM, DODGE_SHARE * room) / len(chart.curves))


def _draw_curve(root: Element, curve: Curve, x: Scale, y: Scale, dodge: float) -> None:
    drawn = group(root, curve.css)
    own = {point.x for point in curve.points}

    def at(place: tuple[float, float]) -> Place:
        """Lines leave the places that have no mark of this curve, such as the base's, where they are."""
        return x(place[0]) + (dodge if place[0] in own else 0.0), y(place[1])

    for css, places in curve.lines:
        polyline(drawn, [at(place) for place in places], css)
    for point in curve.points:
        center = at((point.x, point.y))
        mark = group(drawn, point.css, point.tooltip)
        if curve.bars:
            half = BAR_SHARE * (x(1) - x(0))
            rectangle(mark, (center[0] - half, center[1]), (2 * half, y(0) - center[1]), "bar")
        if point.interval is not None and math.isfinite(sum(point.interval)):
            line(mark, (center[0], y(point.interval[0])), (center[0], y(point.interval[1])), "error")
        if point.x_interval is not None:
            line(mark, (x(point.x_interval[0]), center[1]), (x(point.x_interval[1]), center[1]), "error")
        if point.ring:
            marker(mark, center, "circle", "ring", 9)
        if not curve.bars:
            marker(mark, center, point.shape or curve.shape, "mark", curve.radius)
