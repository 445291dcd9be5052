"""Which variants are worth their bytes: the Pareto fronts over everything that was dropped, refitted and quantized."""

from collections.abc import Collection, Set
from dataclasses import replace

from drop_ray.report import blocks, formatting
from drop_ray.report.answer import find_answer
from drop_ray.report.charts.svg import SHAPES
from drop_ray.report.charts.xy import Axis, Curve, Point, XyChart, charts
from drop_ray.report.fronts import Front, size_fronts
from drop_ray.report.results import Results
from drop_ray.report.rows import VariantRow
from drop_ray.report.sections.quality import legend
from drop_ray.report.series import Series, strategy_series

SIZE = (1120.0, 400.0)
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
TITLES = {"average": "Average over the tasks against bytes", "KL": "KL to the base against bytes"}
TEXT = (
    "All variants by the bytes of their weights. The line is the Pareto front: of the variants on it, which are named "
    "where there is room, no other is as good in both and better in one, by the measured values, whose intervals may "
    "overlap. Bars are one standard error."
)


def front_sections(results: Results) -> list[blocks.Section]:
    """None where no measure of quality is known of two variants."""
    fronts, named = [front for front in size_fronts(results) if len(front.points) > 1], find_answer(results).names
    if not fronts:
        return []
    series = _series(results, {row for front in fronts for row in front.points})
    text = TEXT + (" Rings mark the variants that the first line names." if named else "")
    if any(row.quantization for row in results.variants):
        text += " Hollow marks are quantized."
    found: list[blocks.Block] = []
    for front in fronts:
        members = ", ".join(_spelled(front, row) for row in front.members)
        drawn = charts([front_chart(front, series, named)])
        found += [*drawn, blocks.Paragraph(f"On the front of {front.measure}: {members}.")]
    drawings = blocks.Columns(found, text=[text], size="wide", legend=legend(series, "front-legend"))
    return [blocks.Section("Which variants are worth their bytes", "front", [drawings])]


def front_chart(front: Front, series: Collection[Series], named: Collection[str]) -> XyChart:
    """A mark for each variant, and the front as a line."""
    largest = max(row.weight_bytes for row in front.points)
    unit = formatting.binary_bytes(largest).split()[1]
    factor = 1024 ** UNITS.index(unit)
    corners = [(x / factor, y) for x, y in front.corners()]
    better = "higher" if front.higher_is_better else "lower"
    return XyChart(
        name=f"front-{front.measure.lower()}",
        title=TITLES[front.measure],
        subtitle="higher is better" if front.higher_is_better else "nats per token, lower is better; the base has 0",
        description=f"{TITLES[front.measure]}, {better} is better; on the Pareto front are "
        f"{', '.join(row.name for row in front.members)}.",
        x=Axis(f"weights, {unit}"),
        y=Axis(log=not front.higher_is_better),
        curves=[
            Curve("pareto", "circle", lines=[("front", corners)]),
            *(_curve(front, one, factor, named) for one in series),
        ],
        size=SIZE,
    )


def _curve(front: Front, series: Series, factor: int, named: Collection[str]) -> Curve:
    points = [
        Point(
            row.weight_bytes / factor,
            front.points[row].value,
            _spelled(front, row),
            interval=front.points[row].bounds(),
            css="point quantized" if row.quantization else "point",
            ring=row.name in named,
            name=row.name if row in front.members else "",
        )
        for row in series.variants
        if row in front.drawn
    ]
    return Curve(series.css, series.shape, points)


def _series(results: Results, known: Set[VariantRow]) -> list[Series]:
    """The base's, then those of strategies, of which a variant is known."""
    of_base = tuple(row for row in results.variants if row.strategy == "base")
    base = Series("base", "series reference", SHAPES[0], variants=of_base)
    found: list[Series] = []
    for one in (base, *strategy_series(results.variants)):
        if known & {*one.variants}:
            # No line tells series of one colour apart here: each has a shape of its own, as long as there are any.
            taken = {other.shape for other in found if other.css.split()[1] == one.css.split()[1]}
            shape = next((shape for shape in (one.shape, *SHAPES) if shape not in taken), one.shape)
            found.append(replace(one, shape=shape, connected=False))
    return found


def _spelled(front: Front, row: VariantRow) -> str:
    """`attention-4 (9.2 MiB, 0.7000 +- 0.0150)`."""
    value = front.points[row]
    spelled = (
        formatting.estimate(value.value, value.stderr) if front.higher_is_better else formatting.score(value.value)
    )
    return f"{row.name} ({formatting.binary_bytes(row.weight_bytes)}, {spelled})"
