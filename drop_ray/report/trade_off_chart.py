"""Quality against speedup: a mark per plan, the Pareto front as a line with its plans in bold.

Bars are one standard error of the quality and the 95 % interval of the speedup.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element

from markupsafe import Markup

from drop_ray.report import formatting
from drop_ray.report.axes import Scale, fit, x_axis, y_axis
from drop_ray.report.series import Series
from drop_ray.report.serving import Reference, TradeOff
from drop_ray.report.serving_tables import spelled_ratio
from drop_ray.report.svg import Anchor, figure, group, label, line, marker, markup, polyline

LABEL_CHARACTER, LABEL_HEIGHT = 7.4, 14.0
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def trade_off_chart(
    name: str,
    reference: Reference,
    points: Sequence[TradeOff],
    marks: Mapping[str, Series],
    winner: str | None,
    size: tuple[float, float],
) -> Markup | None:
    """marks: by plan, the base's too; winner: the plan with a ring. None without a plan beside the base."""
    if len(points) < 2:
        return None
    width, height = size
    bounds_x = [bound for point in points for bound in (point.speedup.low, point.speedup.high)]
    bounds_y = [bound for point in points for bound in _bounds(point)]
    x, y = fit(bounds_x, 52, width - 14), fit(bounds_y, height - 46, 42)
    front = sorted((point for point in points if point.on_front), key=lambda point: point.speedup.value)
    title = f"Workload {reference.workload}, batch {reference.batch_size}"
    description = f"Average quality against speedup; the Pareto front: {front_text(points)}."
    root = figure(name, f"Quality against speedup: {title}", description, width, height)
    label(root, (0, 14), title, "chart-title")
    label(root, (0, 30), "mean of the primary metrics", "note")
    y_axis(root, y, x.start, x.stop)
    x_axis(root, x, x.ticks(), y.start, "speedup (output tokens/s, plan to base)")
    line(root, (x(1), y.start), (x(1), y.stop), "base-line")
    places = {point.plan.name: (x(point.speedup.value), y(point.quality.value)) for point in points}
    # A speedup between those of two plans is had with the faster one, at its quality: hence steps.
    corners = [places[front[0].plan.name]]
    for before, after in pairwise(front):
        corners += [(places[before.plan.name][0], places[after.plan.name][1]), places[after.plan.name]]
    polyline(root, corners, "front")
    for point in points:
        _draw_point(root, point, marks[point.plan.name], places[point.plan.name], (x, y), point.plan.name == winner)
    taken = [_around(place) for place in places.values()]
    frame = (x.start, y.stop, x.stop, y.start)
    for point in sorted(points, key=lambda point: not point.on_front):
        _draw_name(root, marks[point.plan.name], places[point.plan.name], taken, frame, point.on_front)
    return markup(root)


def front_text(points: Sequence[TradeOff]) -> str:
    """`base (1.000x, 0.7440), attention-4 (1.210x, 0.7000)`, the fastest last."""
    front = sorted((point for point in points if point.on_front), key=lambda point: point.speedup.value)
    return ", ".join(
        f"{point.plan.name} ({spelled_ratio(point.speedup.value)}x, {formatting.number(point.quality.value)})"
        for point in front
    )


def _draw_point(
    root: Element, point: TradeOff, style: Series, at: tuple[float, float], scales: tuple[Scale, Scale], ringed: bool
) -> None:
    x, y = scales
    speedup, quality = point.speedup, point.quality
    tooltip = (
        f"{point.plan.name}: speedup {spelled_ratio(speedup.value)} [{spelled_ratio(speedup.low)}, "
        f"{spelled_ratio(speedup.high)}], average {formatting.estimate(quality.value, quality.stderr)}"
    )
    mark = group(group(root, style.css), "point", tooltip)
    low, _, high = _bounds(point)
    line(mark, (at[0], y(low)), (at[0], y(high)), "error")
    line(mark, (x(speedup.low), at[1]), (x(speedup.high), at[1]), "error")
    if ringed:
        marker(mark, at, "circle", "ring", 9)
    marker(mark, at, style.shape, "mark", 4.5)


def _draw_name(
    root: Element, style: Series, at: tuple[float, float], taken: list[Box], frame: Box, on_front: bool
) -> None:
    """Beside the mark where it covers no other mark or name and stays within the frame; if nowhere, only plans of the
    front are named all the same, above right."""
    name = style.plans[0].name
    length = LABEL_CHARACTER * len(name)
    places: list[tuple[float, float, Anchor]] = [
        (at[0] + dx, at[1] + dy, "start" if dx > 0 else "end") for dy in (-9, 17, -24, 32) for dx in (8, -8)
    ]
    boxes = [(x if anchor == "start" else x - length, y - LABEL_HEIGHT + 3, y + 3) for x, y, anchor in places]
    spans: list[Box] = [(left, top, left + length, bottom) for left, top, bottom in boxes]
    free = [
        index
        for index, box in enumerate(spans)
        if frame[0] <= box[0]
        and frame[1] <= box[1]
        and box[2] <= frame[2]
        and box[3] <= frame[3]
        and not any(_overlap(box, other) for other in taken)
    ]
    if not free and not on_front:
        return
    chosen = free[0] if free else 0
    taken.append(spans[chosen])
    x, y, anchor = places[chosen]
    label(group(root, style.css), (x, y), name, "series-label front-label" if on_front else "series-label", anchor)


def _bounds(point: TradeOff) -> tuple[float, float, float]:
    value, error = point.quality.value, point.quality.stderr
    room = error if error is not None and math.isfinite(error) else 0.0
    return value - room, value, value + room


def _around(at: tuple[float, float]) -> Box:
    return at[0] - 5, at[1] - 5, at[0] + 5, at[1] + 5


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
