"""Drawings of dropping and quantizing: quality against size, and the errors of the modules' outputs over the layers.

A plan has one colour in both. Against size, the shape of a mark is of the column (circle for the plan as it is);
over the layers, dashes are of rounding to nearest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from markupsafe import Markup

from drop_ray.report import formatting
from drop_ray.report.axes import Scale, fit, whole_ticks, x_axis, y_axis
from drop_ray.report.quantization import Grid
from drop_ray.report.results import LayerErrorRow, PlanRow
from drop_ray.report.series import Series
from drop_ray.report.serving_charts import draw_labels
from drop_ray.report.statistics import Estimate
from drop_ray.report.svg import SHAPES, Shape, figure, group, label, marker, markup, polyline

LEFT, TOP, BOTTOM = 48.0, 42.0, 46.0
LABEL_CHARACTER = 7.0
"""Pixels of a label's character, on average and with room to spare."""
Curve = list[tuple[float, float]]


def column_shapes(grid: Grid) -> dict[str, Shape]:
    """The marks of the methods, by label; the circle is of the plans as they are."""
    _, *shapes = SHAPES
    return {label: shapes[index % len(shapes)] for index, label in enumerate(grid.labels)}


def size_chart(
    name: str,
    titles: tuple[str, str],
    grid: Grid,
    values: Mapping[str, Estimate],
    marks: Mapping[str, Series],
    size: tuple[float, float],
) -> Markup | None:
    """A measure of quality against the bytes of the weights; forms of one plan hang on a line.

    titles: of the chart and of the measure; values: by plan and form; marks: by plan. None without a finite value.
    """
    forms = {plan.name: [plan, *_forms(grid, plan)] for plan in grid.plans}
    drawn = {
        plan: known for plan, found in forms.items() if (known := [form for form in found if _finite(values, form)])
    }
    if not drawn:
        return None
    (width, height), shapes = size, {"": SHAPES[0], **column_shapes(grid)}
    unit, factor = _unit(max(form.weight_bytes for known in drawn.values() for form in known))
    x = fit(
        (form.weight_bytes / factor for known in drawn.values() for form in known),
        LEFT,
        width - _label_room(drawn),
        from_zero=True,
    )
    y = fit(
        (values[form.name].value for known in drawn.values() for form in known), height - BOTTOM, TOP, allow_log=True
    )
    description = f"{titles[1]} against the bytes of the weights, of {', '.join(drawn)} and their quantized forms."
    root = figure(name, titles[0], description, width, height)
    label(root, (0, 14), titles[0], "chart-title")
    label(root, (0, 30), titles[1], "note")
    y_axis(root, y, x.start, x.stop)
    x_axis(root, x, x.ticks(), y.start, f"weights, {unit}")
    ends = []
    for plan, known in drawn.items():
        curve = group(root, marks[plan].css)
        places = [(x(form.weight_bytes / factor), y(values[form.name].value)) for form in known]
        polyline(curve, sorted(places), "leader")
        for form, at in zip(known, places, strict=True):
            column = form.quantization.label if form.quantization else ""
            tooltip = f"{form.name}: {formatting.number(values[form.name].value)}"
            point = group(curve, "point", f"{tooltip}, {formatting.binary_bytes(form.weight_bytes)}")
            marker(point, at, shapes[column], "mark", 4.5)
        ends.append((max(places), replace(marks[plan], shape=SHAPES[0])))
    draw_labels(root, ends, x, y)
    return markup(root)


def error_charts(
    name: str, grid: Grid, column: str, marks: Mapping[str, Series], num_layers: int, size: tuple[float, float]
) -> list[Markup]:
    """Relative output errors of one column over the layers: a drawing per module, none of one without errors."""
    errors = {
        plan.name: form.quantization.errors
        for plan in grid.plans
        if (form := grid.forms.get((plan.name, column))) and form.quantization and form.quantization.errors
    }
    charts = (
        _error_chart(
            f"{name}-{module}",
            f"{column}, {module}",
            {plan: [row for row in rows if row.module == module] for plan, rows in errors.items()},
            *(marks, num_layers, size),
        )
        for module in ("attention", "mlp")
    )
    return [chart for chart in charts if chart is not None]


def _error_chart(
    name: str,
    title: str,
    errors: Mapping[str, Sequence[LayerErrorRow]],
    marks: Mapping[str, Series],
    num_layers: int,
    size: tuple[float, float],
) -> Markup | None:
    drawn = {plan: rows for plan, rows in errors.items() if rows}
    bounds = [bound for rows in drawn.values() for row in rows for bound in (row.error, row.round_to_nearest)]
    if not any(map(math.isfinite, bounds)):
        return None
    width, height = size
    x = Scale(-0.5, num_layers - 0.5, LEFT, width - _label_room(drawn))
    y = fit(bounds, height - BOTTOM, TOP, from_zero=True, allow_log=True)
    description = f"Relative squared output error over the layers, of {', '.join(drawn)}, and of rounding to nearest."
    root = figure(name, title, description, width, height)
    label(root, (0, 14), title, "chart-title")
    label(root, (0, 30), "relative squared error; dashed: rounded to nearest", "note")
    y_axis(root, y, x.start, x.stop)
    x_axis(root, x, whole_ticks(num_layers - 1, 9), y.start, "layer")
    ends = []
    for plan, rows in drawn.items():
        curve, ordered = group(root, marks[plan].css), sorted(rows, key=lambda row: row.layer)
        for run in formatting.runs(row.layer for row in ordered):
            neighbours = [row for row in ordered if row.layer in run]
            polyline(curve, [(x(row.layer), y(row.round_to_nearest)) for row in neighbours], "rounded")
            polyline(curve, [(x(row.layer), y(row.error)) for row in neighbours], "line")
        for row in ordered:
            tooltip = f"{plan}, layer {row.layer}: {row.error:.3g}, rounded to nearest {row.round_to_nearest:.3g}"
            point = group(curve, "point", tooltip)
            marker(point, (x(row.layer), y(row.error)), marks[plan].shape, "mark", 3.2)
        ends.append(((x(ordered[-1].layer), y(ordered[-1].error)), marks[plan]))
    draw_labels(root, ends, x, y)
    return markup(root)


def _forms(grid: Grid, plan: PlanRow) -> list[PlanRow]:
    return [form for column in grid.labels if (form := grid.forms.get((plan.name, column)))]


def _finite(values: Mapping[str, Estimate], form: PlanRow) -> bool:
    return form.name in values and math.isfinite(values[form.name].value)


def _label_room(names: Mapping[str, object]) -> float:
    return 46 + LABEL_CHARACTER * max(map(len, names))


def _unit(largest: int) -> tuple[str, int]:
    """One unit for an axis: that which the largest value is spelled in."""
    spelled = formatting.binary_bytes(largest).split()[1]
    return spelled, 1024 ** ("B", "KiB", "MiB", "GiB", "TiB").index(spelled)
