"""Importance by layer: bars per module for the base, and heat maps for iteration states and block windows.

In: score rows of one metric. Out: SVG drawings. Whiskers are 95 % confidence intervals of the mean over the calibration
samples. All modules of a chart share one scale, because joint plans rank them together.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from markupsafe import Markup

from drop_ray.report import formatting
from drop_ray.report.axes import Scale, fit, levels, spans_decades, whole_ticks, x_axis, y_axis
from drop_ray.report.results import ScoreRow
from drop_ray.report.svg import figure, group, label, line, marker, markup, polyline, rectangle

NORMAL_95 = 1.96
"""Half width of a 95 % interval in standard errors, for a mean over many samples."""
LEFT, PANEL_HEIGHT, PANEL_GAP = 48.0, 112.0, 38.0
HEAT_LEFT, HEAT_ROW, HEAT_RIGHT = 150.0, 22.0, 190.0
LABEL_CHARACTER = 7.0
"""Pixels of a label's character, on average and with room to spare."""
HEAT_LEVELS = 9
NUM_RANKED = 12


def score_panels(
    name: str, scores: Sequence[ScoreRow], num_layers: int, width: float, picked: Mapping[str, Collection[int]]
) -> Markup:
    """One panel per module over the layers; `picked` marks layers (per module) that the answer's plan drops.

    Bars from zero, or dots on a logarithmic scale when the means span more than 10x. `scores` must not be empty and
    hold one row per module and layer.
    """
    modules = list(dict.fromkeys(row.module for row in scores))
    height = len(modules) * (PANEL_HEIGHT + PANEL_GAP) + 44
    x = Scale(-0.6, num_layers - 0.4, LEFT, width - 14)
    log = spans_decades(row.mean for row in scores)
    description = "; ".join(f"{module}: {_ranking(scores, module)}" for module in modules)
    root = figure(name, f"Importance by layer ({scores[0].metric})", description, width, height)
    top = 0.0
    for module in modules:
        rows = [row for row in scores if row.module == module]
        bounds = [bound for row in scores for bound in (row.mean, _upper(row))]
        y = fit(bounds, top + PANEL_GAP + PANEL_HEIGHT, top + PANEL_GAP, from_zero=True, allow_log=log)
        panel = group(root, f"module-{module}")
        label(panel, (0, top + 24), module, "chart-title module-name")
        label(panel, (width - 14, top + 24), _ranking(scores, module), "note", "end")
        for layer in picked.get(module, ()):
            rectangle(panel, (x(layer - 0.5), y.stop), (x(layer + 0.5) - x(layer - 0.5), PANEL_HEIGHT), "picked")
        y_axis(panel, y, x.start, x.stop)
        if y.log:
            polyline(panel, [(x(row.layer), y(row.mean)) for row in rows], "profile")
        for row in rows:
            _draw_score(panel, row, x, y)
        line(panel, (x.start, y.start), (x.stop, y.start), "axis")
        top += PANEL_HEIGHT + PANEL_GAP
    x_axis(root, x, whole_ticks(num_layers - 1, 26), top, "layer")
    return markup(root)


@dataclass(frozen=True)
class HeatRow:
    """One row of a heat map; layers without a score (dropped already, or past the last window) stay empty.

    framed: layers whose cells are framed; note: what stands to the right. Without them both are of the lowest cell.
    """

    label: str
    scores: Mapping[int, ScoreRow]
    framed: Collection[int] | None = None
    note: str | None = None


def heat_map(name: str, title: str, rows: Sequence[HeatRow], num_layers: int, width: float) -> Markup:
    """Rows over layers, light = redundant; all rows share one colour scale."""
    cells = [score for row in rows for score in row.scores.values()]
    means = [score.mean for score in cells]
    level = levels(means, HEAT_LEVELS)
    lowest = {row.label: min(row.scores.values(), key=lambda score: score.mean) for row in rows}
    description = "; ".join(f"{row.label}: lowest {_span(lowest[row.label])}" for row in rows)
    height = 30 + len(rows) * HEAT_ROW + 40
    root = figure(name, title, description, width, height)
    label(root, (0, 16), f"{title} (light: redundant)", "chart-title")
    left = max(HEAT_LEFT, LABEL_CHARACTER * max(len(row.label) for row in rows))
    x = Scale(-0.5, num_layers - 0.5, left, width - HEAT_RIGHT)
    for index, row in enumerate(rows):
        top = 30 + index * HEAT_ROW
        framed = {lowest[row.label].layer} if row.framed is None else row.framed
        label(root, (left - 10, top + 15), row.label, "label", "end")
        for layer in range(num_layers):
            size = (x(1) - x(0) - 1, HEAT_ROW - 2)
            score = row.scores.get(layer)
            if score is None:
                rectangle(root, (x(layer - 0.5), top), size, "empty-cell")
                continue
            cell = group(root, "cell", _tooltip(score))
            frame = " lowest" if layer in framed else ""
            rectangle(cell, (x(layer - 0.5), top), size, f"heat-{int(level(score.mean))}{frame}")
        note = f"lowest {_span(lowest[row.label])}" if row.note is None else row.note
        label(root, (x.stop + 12, top + 15), note, "note")
    x_axis(root, x, whole_ticks(num_layers - 1, 26), 30 + len(rows) * HEAT_ROW + 2)
    _draw_ramp(root, x.stop + 12, 30 + len(rows) * HEAT_ROW + 10, min(means), max(means))
    return markup(root)


def _draw_score(panel: Element, row: ScoreRow, x: Scale, y: Scale) -> None:
    column = group(panel, "score", _tooltip(row))
    center, half = x(row.layer), 0.36 * (x(1) - x(0))
    if y.log:
        marker(column, (center, y(row.mean)), "circle", "dot", min(4.5, max(2.0, half)))
    else:
        rectangle(column, (center - half, y(row.mean)), (2 * half, y(0) - y(row.mean)), "bar")
    line(column, (center, y(row.mean - NORMAL_95 * row.stderr)), (center, y(_upper(row))), "whisker")


def _draw_ramp(root: Element, left: float, top: float, low: float, high: float) -> None:
    """The colour scale, from the lowest to the highest score."""
    width = 9.0
    label(root, (left, top + 9), formatting.score(low), "tick")
    for level in range(HEAT_LEVELS):
        rectangle(root, (left + 52 + level * width, top), (width, 10), f"heat-{level}")
    label(root, (left + 58 + HEAT_LEVELS * width, top + 9), formatting.score(high), "tick")


def _upper(row: ScoreRow) -> float:
    return row.mean + NORMAL_95 * row.stderr


def _span(row: ScoreRow) -> str:
    layers = formatting.layer_ranges(range(row.layer, row.layer + row.gap))
    return f"{layers} ({formatting.score(row.mean)})"


def _tooltip(row: ScoreRow) -> str:
    layers = formatting.layer_ranges(range(row.layer, row.layer + row.gap))
    interval = f"{formatting.score(row.mean)} {formatting.PLUS_MINUS} {formatting.score(NORMAL_95 * row.stderr)}"
    return f"{row.module} {layers}, {row.drop_state}: {interval} (95 %)"


def _ranking(scores: Sequence[ScoreRow], module: str) -> str:
    ranked = sorted((row for row in scores if row.module == module), key=lambda row: (row.mean, row.layer))
    more = ", ..." if len(ranked) > NUM_RANKED else ""
    return "most redundant first: " + ", ".join(str(row.layer) for row in ranked[:NUM_RANKED]) + more
