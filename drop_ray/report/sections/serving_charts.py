"""Charts of serving: speedups and latencies by batch size, and quality against speedup; one drawing per workload.

Batch sizes stand on a logarithmic axis, variants measured at the same one side by side.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from drop_ray.evaluation.estimates import Estimate
from drop_ray.report import formatting
from drop_ray.report.charts.xy import Axis, Curve, Point, XyChart
from drop_ray.report.formatting import interval, ratio
from drop_ray.report.results import Results
from drop_ray.report.rows import ServingRow
from drop_ray.report.series import Series
from drop_ray.report.serving import LATENCIES, PERCENTILES, SPEEDUP, Reference, TradeOff, front, latencies

MIDDLE_SIZE, SMALL_SIZE = (550.0, 330.0), (366.0, 250.0)
MEDIAN, TAIL = PERCENTILES[0], PERCENTILES[-1]
ROOM = 1.4
"""How much of the axis, as a factor of batch size, is left beside the outermost ones."""


def speedup_chart(name: str, results: Results, workload: str, series: Mapping[str, Series]) -> XyChart | None:
    """Ratios of output tokens per second, with the control; comparisons at equal memory hang on a dashed line, at the
    variant's own larger batch. None where there is none of this workload."""
    rows = [row for row in results.serving if (row.workload, row.metric) == (workload, SPEEDUP)]
    if not rows:
        return None
    by_variant = {row.name: [found for found in rows if found.variant == row.name] for row in results.variants}
    base, best = results.variants[0].name, max(rows, key=lambda row: row.ratio)
    styles = {**series, base: replace(series[base], label="control")}
    return XyChart(
        name=name,
        title=f"Workload {workload}",
        subtitle="output tokens/s, variant to base",
        description=f"Speedup by batch size, with the control, in workload {workload}; the largest is "
        f"{ratio(best.ratio)}, of {best.variant} at batch {best.variant_batch_size}.",
        x=_batches({row.batch_size for row in rows}, {row.variant_batch_size for row in rows}),
        y=Axis(),
        curves=[_speedups(found, styles[variant]) for variant, found in by_variant.items() if found],
        size=MIDDLE_SIZE,
        level=Estimate(1.0, None),
        dodge=True,
    )


def latency_charts(name: str, results: Results, workload: str, series: Mapping[str, Series]) -> Iterator[XyChart]:
    """One per latency: medians by batch size of base and variants at equal batches."""
    found = latencies(results)
    for latency, title in LATENCIES.items():
        measured = {
            (variant, batch): seconds
            for (variant, where, batch, what), seconds in found.items()
            if (where, what) == (workload, latency) and MEDIAN in seconds
        }
        if measured:
            yield _latency_chart(f"{name}-{latency}", f"{title}, {workload}", measured, series)


def trade_off_chart(
    name: str, reference: Reference, points: Sequence[TradeOff], series: Mapping[str, Series], named: Collection[str]
) -> XyChart:
    """A mark per variant, the Pareto front as a line with its variants in bold. named: variants with a ring."""
    best = front(points)
    corners = [(best[0].speedup.value, best[0].quality.value)]
    # A speedup between those of two variants is had with the faster one, at its quality: hence steps.
    for before, after in pairwise(best):
        corners += [(before.speedup.value, after.quality.value), (after.speedup.value, after.quality.value)]
    return XyChart(
        name=name,
        title=f"Workload {reference.workload}, batch {reference.batch_size}",
        subtitle="mean of the primary metrics",
        description=f"Average quality against speedup; the Pareto front: {front_text(points)}.",
        x=Axis("speedup (output tokens/s, variant to base)"),
        y=Axis(),
        curves=[
            Curve("pareto", "circle", lines=[("front", corners)]),
            *(_trade_off(point, series[point.variant.name], named) for point in points),
        ],
        size=MIDDLE_SIZE,
        upright=1.0,
    )


def front_text(points: Sequence[TradeOff]) -> str:
    """`base (1.000x, 0.7440), attention-4 (1.210x, 0.7000)`."""
    spelled = ((point.variant.name, ratio(point.speedup.value), point.quality.value) for point in front(points))
    return ", ".join(f"{name} ({speedup}x, {formatting.number(quality)})" for name, speedup, quality in spelled)


def _speedups(rows: Sequence[ServingRow], style: Series) -> Curve:
    equal = sorted((row for row in rows if row.comparison == "equal_batch"), key=lambda row: row.batch_size)
    line = {row.batch_size: (float(row.batch_size), row.ratio) for row in equal}
    points, lines = [], [("line", [*line.values()])]
    for row in rows:
        more = row.comparison == "equal_memory"
        batch = f"{row.batch_size} against {row.variant_batch_size}" if more else str(row.batch_size)
        tooltip = f"{style.label}, batch {batch}: {ratio(row.ratio)} {interval(row.low, row.high)}"
        css = "point off-scale" if more else "point"
        points.append(Point(row.variant_batch_size, row.ratio, tooltip, interval=(row.low, row.high), css=css))
        if more and row.batch_size in line:
            lines.append(("more-memory", [line[row.batch_size], (float(row.variant_batch_size), row.ratio)]))
    end = max(line.values(), default=(points[-1].x, points[-1].y))
    return Curve(style.css, style.shape, points, lines, style.label, end)


def _latency_chart(
    name: str, title: str, measured: Mapping[tuple[str, int], Mapping[str, float]], series: Mapping[str, Series]
) -> XyChart:
    """measured: seconds by variant and batch size, then by percentile."""
    largest = max(max(seconds[MEDIAN], seconds.get(TAIL, 0.0)) for seconds in measured.values())
    unit, factor = ("s", 1.0) if largest >= 1 else ("ms", 1000.0)
    variants = [variant for variant in series if any(key[0] == variant for key in measured)]
    curves = []
    for variant in variants:
        points = []
        for batch in sorted(batch for name, batch in measured if name == variant):
            value = measured[variant, batch][MEDIAN] * factor
            tail = measured[variant, batch].get(TAIL, measured[variant, batch][MEDIAN]) * factor
            tooltip = f"{variant}, batch {batch}: {value:.3g} {unit}, 99th percentile {tail:.3g} {unit}"
            points.append(Point(batch, value, tooltip, interval=(value, tail)))
        line = [(point.x, point.y) for point in points]
        curves.append(Curve(series[variant].css, series[variant].shape, points, [("line", line)], radius=3.2))
    return XyChart(
        name=name,
        title=title,
        subtitle=f"{unit}, median to 99th percentile",
        description=f"{title}: median and 99th percentile by batch size, of {', '.join(variants)}; lower is better.",
        x=_batches({batch for _, batch in measured}, set()),
        y=Axis(from_zero=True, log=True),
        curves=curves,
        size=SMALL_SIZE,
        dodge=True,
    )


def _trade_off(point: TradeOff, style: Series, named: Collection[str]) -> Curve:
    speedup, quality = point.speedup, point.quality
    spelled = f"{ratio(speedup.value)} {interval(speedup.low, speedup.high)}"
    mark = Point(
        speedup.value,
        quality.value,
        f"{point.variant.name}: speedup {spelled}, average {formatting.estimate(quality.value, quality.stderr)}",
        interval=quality.bounds(),
        x_interval=(speedup.low, speedup.high),
        ring=point.variant.name in named,
        name=point.variant.name,
        bold=point.on_front,
    )
    return Curve(style.css, style.shape, [mark], radius=4.5)


def _batches(sizes: set[int], more: set[int]) -> Axis:
    known = sizes | more
    ends = (min(known) / ROOM, max(known) * ROOM)
    return Axis("batch size", ends=ends, log=True, ticks=sorted(sizes), more_ticks=sorted(more))
