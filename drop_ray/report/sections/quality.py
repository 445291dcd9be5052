"""Quality against the number of dropped sub-layers: one line per strategy, for the average and for each task."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from markupsafe import Markup

from drop_ray.evaluation.estimates import Estimate
from drop_ray.report import blocks, formatting
from drop_ray.report.answer import find_answer
from drop_ray.report.charts.axes import whole_ticks
from drop_ray.report.charts.svg import legend_mark
from drop_ray.report.charts.xy import Axis, Curve, Point, XyChart, charts
from drop_ray.report.results import Results
from drop_ray.report.rows import VariantRow
from drop_ray.report.sections.told_apart import told_apart_blocks
from drop_ray.report.series import Series, strategy_series
from drop_ray.report.statistics import Task, averaged_tasks, averages, primary_tasks

MAIN_SIZE, SMALL_SIZE = (1120.0, 420.0), (366.0, 250.0)
AVERAGE = Task("", "mean of the primary metrics", True, None)
"""What the main chart shows, as a task."""


def quality_sections(everything: Results) -> list[blocks.Section]:
    """Always one."""
    title, results = "Quality against what is dropped", everything.unquantized()
    named = find_answer(everything).names
    over = f"Average over {formatting.count(len(averaged_tasks(results)), 'task')}"
    main = charts([quality_chart("average", over, AVERAGE, results, averages(results), named, labels=True)])
    small = charts(
        quality_chart(f"task-{index}", task.task, task, results, task.values(results), named)
        for index, task in enumerate(primary_tasks(results))
    )
    if not main and not small:
        return [blocks.Section(title, "quality", [blocks.Paragraph("Nothing was evaluated in this run.")])]
    text = (
        "Each point is one variant; error bars are one standard error. A dropped block counts as two sub-layers. The "
        f"shaded band is the base {formatting.PLUS_MINUS} one standard error"
    )
    drawn = {row.name for row in results.variants} & named
    ring = "; rings mark the variants that the first line names." if drawn else "."
    found: list[blocks.Block] = [blocks.Paragraph(text + ring, of_drawings=True), *main]
    if small:
        evaluated = {row.variant for row in results.evaluations}
        shown = [one for one in strategy_series(results.variants) if any(row.name in evaluated for row in one.variants)]
        marks = legend(shown, "legend")
        found.append(blocks.Columns(small, "By task", size="small", legend=marks))
    found += told_apart_blocks(results)
    return [blocks.Section(title, "quality", found)]


def legend(series: Iterable[Series], name: str) -> list[tuple[str, Markup]]:
    """Text and mark of each."""
    return [
        (entry.label, legend_mark(f"{name}-{index}", entry.label, entry.css, entry.shape, entry.connected))
        for index, entry in enumerate(series)
    ]


def quality_chart(
    name: str,
    title: str,
    task: Task,
    results: Results,
    values: Mapping[str, Estimate],
    named: Collection[str],
    labels: bool = False,
) -> XyChart:
    """values: by variant; those without one are left out. Perplexities that span more than 10x get a logarithmic scale;
    infinite ones sit as hollow marks on the frame's edge. named: variants with a ring."""
    base, better = results.variants[0] if results.variants else None, "higher" if task.higher_is_better else "lower"
    known = {name: value for name, value in values.items() if not math.isnan(value.value)}
    of_base = known.get(base.name) if base else None
    series = [one for one in strategy_series(results.variants) if any(row.name in values for row in one.variants)]
    last = max((row.sublayers_dropped for one in series for row in one.variants), default=1) or 1
    level = of_base if of_base and math.isfinite(of_base.value) else None
    measure = task.metric + ("" if task.num_fewshot is None else f", {task.num_fewshot}-shot")
    subtitle = measure + ("" if task.higher_is_better else ", lower is better")
    subtitle += ", infinite on the edge" if any(math.isinf(value.value) for value in known.values()) else ""
    spelled = f" The base has {formatting.estimate(of_base.value, of_base.stderr)}." if of_base else ""
    shown = sum(row.name in values for one in series for row in one.variants)
    return XyChart(
        name=name,
        title=title,
        subtitle=subtitle,
        description=f"{measure} of {shown} variants against the number of sub-layers dropped; {better} is better."
        + spelled,
        x=Axis("sub-layers dropped", ends=(-0.03 * last, 1.03 * last), ticks=whole_ticks(last, 12 if labels else 7)),
        y=Axis(log=not task.higher_is_better),
        curves=[_curve(one, known, base, named, labels) for one in series],
        size=MAIN_SIZE if labels else SMALL_SIZE,
        level=level,
        level_tooltip=f"base: {formatting.estimate(level.value, level.stderr)}" if level else None,
        dodge=True,
    )


def _curve(
    series: Series, values: Mapping[str, Estimate], base: VariantRow | None, named: Collection[str], labels: bool
) -> Curve:
    """Where seeds give several variants of one size, the line runs through their mean; it spans what is not finite."""
    by_size: dict[int, list[float]] = defaultdict(list)
    for row in (base, *series.variants):
        if row and row.name in values and math.isfinite(values[row.name].value):
            by_size[row.sublayers_dropped].append(values[row.name].value)
    line = [(float(size), math.fsum(found) / len(found)) for size, found in sorted(by_size.items())]
    points = [
        Point(
            row.sublayers_dropped,
            value.value,
            f"{row.name}: {formatting.estimate(value.value, value.stderr)}, {row.sublayers_dropped} dropped",
            interval=value.bounds() if math.isfinite(value.value) else None,
            css="point" if math.isfinite(value.value) else "point off-scale",
            ring=row.name in named,
        )
        for row in series.variants
        if (value := values.get(row.name))
    ]
    return Curve(
        series.css,
        series.shape,
        points,
        lines=[("line", line)] if series.connected else [],
        label=series.label if labels else "",
        end=line[-1] if line else None,
        radius=4.0 if labels else 3.2,
    )
