"""What the section on dropping and quantizing shows in the HTML page: sentences, tables and drawings."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from drop_ray.report.quality_charts import legend_mark
from drop_ray.report.quantization import (
    Grid,
    both_effects,
    log_perplexities,
    perplexity_tasks,
    primary_values,
    quantization_grid,
    reconstructions,
)
from drop_ray.report.quantization_charts import column_shapes, error_charts, size_chart
from drop_ray.report.quantization_tables import (
    quality_tables,
    reconstruction_table,
    settings_table,
    size_table,
    speed_tables,
)
from drop_ray.report.quantization_texts import (
    RECONSTRUCTION_TEXT,
    effects_table,
    effects_text,
    grid_text,
    reconstruction_sentences,
)
from drop_ray.report.results import Results
from drop_ray.report.series import Series
from drop_ray.report.serving_charts import base_mark, plan_marks
from drop_ray.report.statistics import standings
from drop_ray.report.svg import SHAPES
from drop_ray.report.text_table import TextTable

CHART_SIZE = (550.0, 300.0)


@dataclass(frozen=True)
class QuantizationSection:
    """legend: the columns' marks; effects: (what they mean, their table) by perplexity. The template spells it out."""

    text: str
    charts: Sequence[Markup]
    legend: Sequence[tuple[str, Markup]]
    grids: Sequence[TextTable]
    effects: Sequence[tuple[str, TextTable]]
    reconstruction_text: str
    findings: Sequence[str]
    error_charts: Sequence[Markup]
    errors: TextTable
    checkpoints: TextTable


def quantization_section(results: Results, series: Sequence[Series]) -> QuantizationSection | None:
    """None where nothing was quantized. series: of the plans as they are."""
    grid = quantization_grid(results)
    if grid is None:
        return None
    base = grid.plans[0]
    marks = {base.name: base_mark(base), **plan_marks(series)}
    tasks, errors = perplexity_tasks(results), reconstructions(grid)
    measures = [
        (f"{task.task} against size", f"{task.metric}, lower is better", primary_values(results, task))
        for task in tasks
    ]
    averages = {row.plan.name: row.average for row in standings(results) if row.average is not None}
    if averages:
        measures.append(("Average against size", "mean of the primary metrics, higher is better", averages))
    charts = (
        size_chart(f"size-{index}", (title, measure), grid, values, marks, CHART_SIZE)
        for index, (title, measure, values) in enumerate(measures)
    )
    return QuantizationSection(
        text=grid_text(results, grid),
        charts=[chart for chart in charts if chart is not None],
        legend=_legend(results, grid),
        grids=[*quality_tables(results, grid, tasks), size_table(results, grid), *speed_tables(results, grid)],
        effects=[
            (effects_text(rows), effects_table(task, rows))
            for task in tasks
            if (rows := both_effects(log_perplexities(results, task), grid))
        ],
        reconstruction_text=RECONSTRUCTION_TEXT,
        findings=reconstruction_sentences(grid, errors),
        error_charts=[
            chart
            for index, label in enumerate(grid.labels)
            for chart in error_charts(f"error-{index}", grid, label, marks, results.run.num_layers, CHART_SIZE)
        ],
        errors=reconstruction_table(errors),
        checkpoints=settings_table(grid),
    )


def _legend(results: Results, grid: Grid) -> list[tuple[str, Markup]]:
    shapes = {results.run.dtype: SHAPES[0], **column_shapes(grid)}
    entries = [Series(label, "series reference", shape, False, ()) for label, shape in shapes.items()]
    return [(entry.label, legend_mark(f"column-{index}", entry)) for index, entry in enumerate(entries)]
