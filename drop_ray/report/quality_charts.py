"""Quality against the number of dropped sub-layers: one line per strategy, for the average and for each task.

In: values by plan. Out: SVG drawings. Error bars are one standard error; the shaded band is the base's. Where seeds or
variants give several plans of one size, the line runs through their mean.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from markupsafe import Markup

from drop_ray.report import formatting
from drop_ray.report.axes import Scale, fit, whole_ticks, x_axis, y_axis
from drop_ray.report.results import PlanRow
from drop_ray.report.series import Series
from drop_ray.report.statistics import Estimate
from drop_ray.report.svg import figure, group, label, line, marker, markup, polyline, rectangle

LABEL_HEIGHT = 17.0


@dataclass(frozen=True)
class QualityChart:
    """What one chart shows. `values` maps plan names to estimates; plans without one are left out."""

    name: str
    title: str
    y_title: str
    base: PlanRow
    series: Sequence[Series]
    values: Mapping[str, Estimate]
    higher_is_better: bool = True
    winner: str | None = None
    direct_labels: bool = False

    @property
    def description(self) -> str:
        """The chart in a sentence, for readers who cannot see it."""
        better = "higher" if self.higher_is_better else "lower"
        shown = sum(plan.name in self.values for series in self.series for plan in series.plans)
        base = self.values.get(self.base.name)
        reference = f" The base has {formatting.estimate(base.value, base.stderr)}." if base else ""
        return (
            f"{self.y_title} of {shown} plans against the number of sub-layers dropped; {better} is better.{reference}"
        )


def quality_chart(chart: QualityChart, width: float, height: float) -> Markup | None:
    """The drawing, or None when there is no finite value to draw.

    Lower-is-better metrics (perplexities) get a logarithmic scale when they span more than 10x. Infinite values sit as
    hollow marks on the frame's edge.
    """
    bounds = [bound for value in chart.values.values() for bound in _bounds(value) if math.isfinite(bound)]
    if not bounds:
        return None
    infinite = any(math.isinf(value.value) for value in chart.values.values())
    drawn = [series for series in chart.series if any(plan.name in chart.values for plan in series.plans)]
    height = max(height, LABEL_HEIGHT * len(drawn) + 80) if chart.direct_labels else height
    right = 190 if chart.direct_labels else 14
    plans = [plan for series in drawn for plan in series.plans]
    last = max([plan.sublayers_dropped for plan in plans], default=1) or 1
    x = Scale(-0.03 * last, last * 1.03, 48, width - right)
    y = fit(bounds, height - 46, 42, allow_log=not chart.higher_is_better)
    root = figure(chart.name, chart.title, chart.description, width, height)
    label(root, (0, 14), chart.title, "chart-title")
    label(root, (0, 30), chart.y_title + (", infinite on the edge" if infinite else ""), "note")
    y_axis(root, y, x.start, x.stop)
    x_axis(root, x, whole_ticks(last, 12 if chart.direct_labels else 7), y.start, "sub-layers dropped")
    base = chart.values.get(chart.base.name)
    if base is not None and math.isfinite(base.value):
        _draw_base(root, base, x, y)
    # Plans of one size stand side by side, within 60 % of the room that a size has.
    spacing = min(2.4, 0.6 * (x(1) - x(0)) / max(1, len(drawn)))
    for index, series in enumerate(drawn):
        _draw_series(root, chart, series, x, y, spacing * (index - (len(drawn) - 1) / 2))
    if chart.direct_labels:
        _draw_labels(root, chart, drawn, x, y)
    return markup(root)


def legend_mark(name: str, series: Series) -> Markup:
    """The line and mark of a series, as the drawing of a legend entry."""
    root = figure(name, series.label, f"Line and mark of {series.label}", 34, 14)
    marks = group(root, series.css)
    if series.connected:
        polyline(marks, [(1, 7), (33, 7)], "line")
    marker(marks, (17, 7), series.shape, "mark")
    return markup(root)


def _bounds(value: Estimate) -> tuple[float, ...]:
    error = value.stderr if value.stderr is not None and math.isfinite(value.stderr) else 0.0
    # An error bar that reaches zero or below would make a logarithmic scale impossible.
    low = value.value - error if value.value - error > 0 or value.value <= 0 else value.value
    return low, value.value, value.value + error


def _draw_base(root: Element, base: Estimate, x: Scale, y: Scale) -> None:
    band = group(root, "base", f"base: {formatting.estimate(base.value, base.stderr)}")
    if base.stderr is not None and math.isfinite(base.stderr):
        top, bottom = y(base.value + base.stderr), y(base.value - base.stderr)
        rectangle(band, (x.start, top), (x.stop - x.start, bottom - top), "band")
    line(band, (x.start, y(base.value)), (x.stop, y(base.value)), "base-line")


def _draw_series(root: Element, chart: QualityChart, series: Series, x: Scale, y: Scale, dodge: float) -> None:
    marks = group(root, series.css)
    if series.connected:
        curve = [(x(size) + (dodge if size else 0), y(value)) for size, value in _curve(chart, series)]
        polyline(marks, curve, "line")
    for plan in series.plans:
        value = chart.values.get(plan.name)
        if value is None or math.isnan(value.value):
            continue
        at = (x(plan.sublayers_dropped) + dodge, y(value.value))
        tooltip = f"{plan.name}: {formatting.estimate(value.value, value.stderr)}, {plan.sublayers_dropped} dropped"
        point = group(marks, "point" if math.isfinite(value.value) else "point off-scale", tooltip)
        if math.isfinite(value.value) and value.stderr is not None and math.isfinite(value.stderr):
            line(point, (at[0], y(value.value - value.stderr)), (at[0], y(value.value + value.stderr)), "error")
        if plan.name == chart.winner:
            marker(point, at, "circle", "ring", 9)
        marker(point, at, series.shape, "mark", 4 if chart.direct_labels else 3.2)


def _curve(chart: QualityChart, series: Series) -> list[tuple[int, float]]:
    """(sub-layers dropped, mean value) from the base on; not finite values leave a gap that the line spans."""
    by_size: dict[int, list[float]] = defaultdict(list)
    for plan in (chart.base, *series.plans):
        value = chart.values.get(plan.name)
        if value is not None and math.isfinite(value.value):
            by_size[plan.sublayers_dropped].append(value.value)
    return [(size, math.fsum(values) / len(values)) for size, values in sorted(by_size.items())]


def _draw_labels(root: Element, chart: QualityChart, drawn: Sequence[Series], x: Scale, y: Scale) -> None:
    """Names at the right ends of the lines, moved apart where they would overlap."""
    ends = []
    for series in drawn:
        curve = _curve(chart, series)
        if curve:
            ends.append((y(curve[-1][1]), x(curve[-1][0]), series))
    ends.sort(key=lambda end: end[0])
    heights = spread([end[0] for end in ends], LABEL_HEIGHT, y.stop, y.start)
    for (end_y, end_x, series), height in zip(ends, heights, strict=True):
        marks = group(root, series.css)
        polyline(marks, [(end_x + 8, end_y), (x.stop + 8, end_y), (x.stop + 20, height)], "leader")
        marker(marks, (x.stop + 27, height), series.shape, "mark", 3.5)
        label(marks, (x.stop + 37, height + 4), series.label, "series-label")


def spread(positions: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Sorted positions moved as little as a simple pass can so that neighbours are `distance` apart within low..high.

    Where low..high is too short for all of them, the first ones leave it at the low end.
    """
    moved: list[float] = []
    for position in positions:
        moved.append(max(position, moved[-1] + distance if moved else low))
    ceiling = high
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - distance
    return moved
