"""Speed against batch size: speedups of the plans, and the latencies of base and plans; one drawing per workload.

Bars of speedups are 95 % intervals; those of latencies reach from the median to the 99th percentile. Batch sizes
stand on a logarithmic axis, plans measured at the same one side by side.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from xml.etree.ElementTree import Element

from markupsafe import Markup

from drop_ray.report.axes import Scale, fit, tick_label, y_axis
from drop_ray.report.quality_charts import LABEL_HEIGHT, spread
from drop_ray.report.results import PlanRow, Results, ServingRow
from drop_ray.report.series import Series
from drop_ray.report.serving import SPEEDUP
from drop_ray.report.serving_tables import LATENCIES, PERCENTILES, base_medians, spelled_ratio
from drop_ray.report.svg import SHAPES, figure, group, label, line, marker, markup, polyline

BASE_SHAPE, *PLAN_SHAPES = SHAPES
LEFT, TOP, BOTTOM = 48.0, 42.0, 46.0
LABEL_CHARACTER = 7.0
"""Pixels of a label's character, on average and with room to spare."""
TICK_ROOM, DODGE_ROOM = 24.0, 24.0
ROOM = 1.4
"""How much of the axis, as a factor of batch size, is left beside the outermost ones."""


def plan_marks(series: Sequence[Series]) -> dict[str, Series]:
    """A series for every plan alone: its strategy's colour and dashes, but a mark of its own, since here each plan is a
    line; by plan name."""
    plans = [(entry, plan) for entry in series for plan in entry.plans]
    return {
        plan.name: replace(entry, label=plan.name, shape=PLAN_SHAPES[index % len(PLAN_SHAPES)], plans=(plan,))
        for index, (entry, plan) in enumerate(plans)
    }


def base_mark(base: PlanRow) -> Series:
    return Series(base.name, "series reference", BASE_SHAPE, True, (base,))


def form_marks(plans: Sequence[PlanRow], marks: Mapping[str, Series]) -> dict[str, Series]:
    """The marks of the plans' quantized forms, by name: the plan's own, hollow."""
    return {
        plan.name: replace(mark, label=plan.name, css=f"{mark.css} quantized", plans=(plan,))
        for plan in plans
        if plan.quantization and (mark := marks[plan.quantization.of])
    }


def speedup_chart(
    name: str, results: Results, workload: str, marks: Mapping[str, Series], size: tuple[float, float]
) -> Markup | None:
    """Ratios of output tokens per second, with the control; comparisons at equal memory hang on a dashed line, at the
    plan's own larger batch. None where there is none of this workload."""
    rows = [row for row in results.serving if (row.workload, row.metric) == (workload, SPEEDUP)]
    if not rows:
        return None
    styles = {results.plans[0].name: replace(base_mark(results.plans[0]), label="control"), **marks}
    plans = [plan for plan in styles if any(row.plan == plan for row in rows)]
    width, height = size[0], max(size[1], LABEL_HEIGHT * len(plans) + TOP + BOTTOM)
    right = 46 + LABEL_CHARACTER * max(len(styles[plan].label) for plan in plans)
    x = _batch_scale([size for row in rows for size in (row.batch_size, row.plan_batch_size)], width - right)
    y = fit([1.0, *(bound for row in rows for bound in (row.low, row.high))], height - BOTTOM, TOP)
    best = max(rows, key=lambda row: row.ratio)
    description = (
        f"Speedup by batch size of {len(plans)} plans and the control in workload {workload}; the largest is "
        f"{spelled_ratio(best.ratio)}, of {best.plan} at batch {best.plan_batch_size}."
    )
    root = figure(name, f"Speedup, workload {workload}", description, width, height)
    _frame(root, x, y, f"Workload {workload}", "output tokens/s, plan to base")
    _batch_axis(root, x, {row.batch_size for row in rows}, {row.plan_batch_size for row in rows}, y.start)
    line(root, (x.start, y(1)), (x.stop, y(1)), "base-line")
    ends = []
    for index, plan in enumerate(plans):
        dodge = _dodge(index, len(plans))
        end = _draw_speedups(root, [row for row in rows if row.plan == plan], styles[plan], x, y, dodge)
        ends.append((end, styles[plan]))
    draw_labels(root, ends, x, y)
    return markup(root)


def latency_charts(
    name: str, results: Results, workload: str, marks: Mapping[str, Series], size: tuple[float, float]
) -> list[Markup]:
    """One drawing per latency: medians by batch size of base and plans at equal batches."""
    rows = [
        row
        for row in results.serving
        if row.workload == workload and row.comparison == "equal_batch" and not row.control
    ]
    base = results.plans[0].name
    values = {(row.plan, row.batch_size, row.metric): row.plan_value for row in rows}
    for (measured, batch_size, metric), value in base_medians(results).items():
        if measured == workload:
            values[base, batch_size, metric] = value
    styles = {base: base_mark(results.plans[0]), **marks}
    charts = (
        _latency_chart(f"{name}-{latency}", f"{title}, {workload}", values, latency, styles, size)
        for latency, title in LATENCIES.items()
    )
    return [chart for chart in charts if chart is not None]


def draw_labels(root: Element, ends: Sequence[tuple[tuple[float, float], Series]], x: Scale, y: Scale) -> None:
    """Names right of the frame, moved apart where they would overlap; ends: where each line ends."""
    ordered = sorted(ends, key=lambda end: end[0][1])
    heights = spread([end[1] for end, _ in ordered], LABEL_HEIGHT, y.stop, y.start)
    for ((end_x, end_y), style), height in zip(ordered, heights, strict=True):
        marks = group(root, style.css)
        polyline(marks, [(end_x + 7, end_y), (x.stop + 4, end_y), (x.stop + 14, height)], "leader")
        marker(marks, (x.stop + 21, height), style.shape, "mark", 3.5)
        label(marks, (x.stop + 31, height + 4), style.label, "series-label")


def _latency_chart(
    name: str,
    title: str,
    values: dict[tuple[str, int, str], float],
    latency: str,
    styles: Mapping[str, Series],
    size: tuple[float, float],
) -> Markup | None:
    median, _, last = (f"{latency}_{percentile}_s" for percentile in PERCENTILES)
    drawn = {(plan, batch_size): value for (plan, batch_size, metric), value in values.items() if metric == median}
    if not drawn:
        return None
    tails = {key: values.get((*key, last), value) for key, value in drawn.items()}
    longest = max(tails.values())
    unit, factor = ("s", 1.0) if longest >= 1 else ("ms", 1000.0)
    width, height = size
    sizes = {batch_size for _, batch_size in drawn}
    x = _batch_scale(sizes, width - 14)
    bounds = [value * factor for value in (*drawn.values(), *tails.values())]
    y = fit(bounds, height - BOTTOM, TOP, from_zero=True, allow_log=True)
    plans = [plan for plan in styles if any(key[0] == plan for key in drawn)]
    description = f"{title}: median and 99th percentile by batch size, of {', '.join(plans)}; lower is better."
    root = figure(name, title, description, width, height)
    _frame(root, x, y, title, f"{unit}, median to 99th percentile")
    _batch_axis(root, x, sizes, set(), y.start)
    for index, plan in enumerate(plans):
        dodge = _dodge(index, len(plans))
        own = sorted(batch_size for name, batch_size in drawn if name == plan)
        curve = group(root, styles[plan].css)
        polyline(curve, [(x(batch) + dodge, y(drawn[plan, batch] * factor)) for batch in own], "line")
        for batch in own:
            tooltip = f"{plan}, batch {batch}: {drawn[plan, batch] * factor:.3g} {unit}"
            tooltip += f", 99th percentile {tails[plan, batch] * factor:.3g} {unit}"
            point, center = group(curve, "point", tooltip), x(batch) + dodge
            line(point, (center, y(drawn[plan, batch] * factor)), (center, y(tails[plan, batch] * factor)), "error")
            marker(point, (center, y(drawn[plan, batch] * factor)), styles[plan].shape, "mark", 3.2)
    return markup(root)


def _draw_speedups(
    root: Element, rows: Sequence[ServingRow], style: Series, x: Scale, y: Scale, dodge: float
) -> tuple[float, float]:
    """The end of the line, where its label goes."""
    curve = group(root, style.css)
    equal = sorted((row for row in rows if row.comparison == "equal_batch"), key=lambda row: row.batch_size)
    places = {row.batch_size: (x(row.batch_size) + dodge, y(row.ratio)) for row in equal}
    polyline(curve, [*places.values()], "line")
    end = max(places.values(), default=(x.start, y(1.0)))
    for row in rows:
        at = (x(row.plan_batch_size) + dodge, y(row.ratio))
        more = row.comparison == "equal_memory"
        if more and row.batch_size in places:
            line(curve, places[row.batch_size], at, "more-memory")
        measured = f"{spelled_ratio(row.ratio)} [{spelled_ratio(row.low)}, {spelled_ratio(row.high)}]"
        batch = f"{row.batch_size} against {row.plan_batch_size}" if more else str(row.batch_size)
        point = group(curve, "point off-scale" if more else "point", f"{style.label}, batch {batch}: {measured}")
        line(point, (at[0], y(row.low)), (at[0], y(row.high)), "error")
        marker(point, at, style.shape, "mark", 4)
    return end


def _frame(root: Element, x: Scale, y: Scale, title: str, y_title: str) -> None:
    label(root, (0, 14), title, "chart-title")
    label(root, (0, 30), y_title, "note")
    y_axis(root, y, x.start, x.stop)


def _dodge(index: int, count: int) -> float:
    """How far marks of one batch size stand beside it, so that they can be told apart and stay within the frame."""
    return min(4.0, DODGE_ROOM / count) * (index - (count - 1) / 2)


def _batch_scale(sizes: Iterable[int], stop: float) -> Scale:
    known = [*sizes]
    return Scale(min(known) / ROOM, max(known) * ROOM, LEFT, stop, log=True)


def _batch_axis(root: Element, x: Scale, sizes: set[int], more: set[int], y: float) -> None:
    """Ticks at the batch sizes, and at those of `more` that there is room for."""
    ticks = sorted(sizes)
    for size in sorted(more):
        if all(abs(x(size) - x(tick)) >= TICK_ROOM for tick in ticks):
            ticks.append(size)
    line(root, (x.start, y), (x.stop, y), "axis")
    for tick in ticks:
        line(root, (x(tick), y), (x(tick), y + 4), "axis")
        label(root, (x(tick), y + 17), tick_label(tick), "tick", "middle")
    label(root, ((x.start + x.stop) / 2, y + 36), "batch size", "axis-title", "middle")
