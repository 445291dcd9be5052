"""Charts of dropping and quantizing: quality against size, and the errors of sub-layers' outputs over the layers.

A variant has one colour in both. Against size, the shape of a mark is of the column (circle for the variant as it is);
over the layers, dashes are of rounding to nearest.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from drop_ray.report import formatting
from drop_ray.report.charts.axes import whole_ticks
from drop_ray.report.charts.svg import SHAPES
from drop_ray.report.charts.xy import Axis, Curve, Point, XyChart
from drop_ray.report.quantization import Grid, errors_of, perplexity_tasks
from drop_ray.report.results import Results
from drop_ray.report.rows import QuantizationErrorRow, VariantRow
from drop_ray.report.sections.quality import AVERAGE
from drop_ray.report.series import OTHER_SHAPES, Series, variant_series
from drop_ray.report.statistics import averages
from drop_ray.text.layer_ranges import runs

SIZE = (550.0, 300.0)
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def column_series(results: Results, grid: Grid) -> dict[str, Series]:
    """The marks of the columns, by label; the circle is of the variants as they are, under the empty label."""
    marks = zip(grid.columns, cycle(OTHER_SHAPES), strict=False)
    series = {label: Series(label, "series reference", shape, False) for label, shape in marks}
    return {"": Series(results.run.dtype, "series reference", SHAPES[0], False), **series}


def size_charts(results: Results, grid: Grid) -> Iterator[XyChart]:
    """Measures of quality against the bytes of the weights."""
    measures = [(task.task, task, task.values(results)) for task in perplexity_tasks(results)]
    for index, (title, task, values) in enumerate([*measures, ("Average", AVERAGE, averages(results))]):
        finite = {name: found.value for name, found in values.items() if math.isfinite(found.value)}
        drawn = {
            row.name: known for row in grid.rows if (known := [one for one in grid.stored(row) if one.name in finite])
        }
        if drawn:
            measure = f"{task.metric}, {'higher' if task.higher_is_better else 'lower'} is better"
            largest = max(row.weight_bytes for known in drawn.values() for row in known)
            unit = formatting.binary_bytes(largest).split()[1]
            yield XyChart(
                name=f"size-{index}",
                title=f"{title} against size",
                subtitle=measure,
                description=f"{measure} against the bytes of the weights, of {', '.join(drawn)}, as they are and "
                "quantized.",
                x=Axis(f"weights, {unit}", from_zero=True),
                y=Axis(log=True),
                curves=[*_size_curves(results, grid, drawn, finite, 1024 ** UNITS.index(unit))],
                size=SIZE,
            )


def error_charts(results: Results, grid: Grid) -> Iterator[XyChart]:
    """Relative output errors over the layers, by label and sub-layer; none without errors."""
    series, last = variant_series(results.variants), results.run.num_layers - 1
    for index, (label, column) in enumerate(grid.columns.items()):
        for module in ("attention", "mlp"):
            measured = {name: errors_of(results, row, module) for name, row in column.items()}
            errors = {name: rows for name, rows in measured.items() if rows}
            if errors:
                yield XyChart(
                    name=f"error-{index}-{module}",
                    title=f"{label}, {module}",
                    subtitle="relative squared error; dashed: rounded to nearest",
                    description=f"Relative squared output error over the layers, of {', '.join(errors)}, and of "
                    "rounding to nearest.",
                    x=Axis("layer", ends=(-0.5, last + 0.5), ticks=whole_ticks(last, 9)),
                    y=Axis(from_zero=True, log=True),
                    curves=[_errors(variant, rows, series[variant]) for variant, rows in errors.items()],
                    size=SIZE,
                )


def _size_curves(
    results: Results, grid: Grid, drawn: Mapping[str, Sequence[VariantRow]], values: Mapping[str, float], unit: int
) -> Iterator[Curve]:
    """drawn: variants by the one that they were quantized from."""
    columns, series = column_series(results, grid), variant_series(results.variants)
    for variant, known in drawn.items():
        points = [
            Point(
                row.weight_bytes / unit,
                values[row.name],
                f"{row.name}: {formatting.number(values[row.name])}, {formatting.binary_bytes(row.weight_bytes)}",
                shape=columns[row.quantization.label if row.quantization else ""].shape,
            )
            for row in known
        ]
        places = sorted((point.x, point.y) for point in points)
        yield Curve(series[variant].css, SHAPES[0], points, [("leader", places)], variant, places[-1], radius=4.5)


def _errors(variant: str, rows: Sequence[QuantizationErrorRow], style: Series) -> Curve:
    """Lines break where a layer has none."""
    lines: list[tuple[str, list[tuple[float, float]]]] = []
    for run in runs(row.layer for row in rows):
        neighbours = [row for row in rows if row.layer in run]
        lines.append(("rounded", [(row.layer, row.round_to_nearest) for row in neighbours]))
        lines.append(("line", [(row.layer, row.error) for row in neighbours]))
    points = [
        Point(
            row.layer,
            row.error,
            f"{variant}, layer {row.layer}: {row.error:.3g}, rounded to nearest {row.round_to_nearest:.3g}",
        )
        for row in rows
    ]
    end = (float(rows[-1].layer), rows[-1].error)
    return Curve(style.css, style.shape, points, lines, variant, end, radius=3.2)
