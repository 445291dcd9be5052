"""The report as one HTML file without network access: inline style, inline SVG, no scripts.

In: `Results`. Out: the page. Texts from the run (names, paths, the configuration) are escaped by the template engine
or by the SVG tree; only this project's own style sheet and drawings are inserted as they are.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from drop_ray.report import formatting
from drop_ray.report.answer import Answer, find_answer
from drop_ray.report.plan_table import drop_strip, plan_lines, table_tasks
from drop_ray.report.quality_charts import QualityChart, legend_mark, quality_chart
from drop_ray.report.quantization_section import quantization_section
from drop_ray.report.results import Results, ScoreRow
from drop_ray.report.score_charts import heat_map, score_panels
from drop_ray.report.score_tables import METRICS_TEXT, by_metric, heat_rows, layer_scores, score_table
from drop_ray.report.series import Series, plan_series
from drop_ray.report.serving_section import serving_section
from drop_ray.report.statistics import Estimate, Standing, averaged_tasks, standings
from drop_ray.report.training_tables import TrainingTables, correlation, training_tables
from drop_ray.store.identity import canonical_json, fingerprint

FOLDER = Path(__file__).parent
PAGE_WIDTH, SMALL_WIDTH = 1120, 366
MAIN_HEIGHT, SMALL_HEIGHT = 420, 250
STRIP_WIDTH = 96


def render_html(everything: Results) -> str:
    """The whole page; equal results give equal text.

    Quantized forms have a section of their own and stand among the serving tables: elsewhere plans are as they are, so
    that what quantizing costs is not taken for what dropping does.
    """
    results = everything.unquantized()
    rows = standings(results)
    answer = find_answer(results, rows)
    series = plan_series(results.plans)
    training = training_tables(results)
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
        format=formatting,
        results=results,
        evaluations=everything.evaluations,
        answer=answer,
        averaged=averaged_tasks(results),
        metrics_text=METRICS_TEXT,
        scores=[
            (metric, _score_charts(str(index), rows, results, answer), score_table(rows))
            for index, (metric, rows) in enumerate(by_metric(results.scores).items())
        ],
        training=[(tables, _training_charts(index, tables, results)) for index, tables in enumerate(training)],
        correlation=correlation,
        main_chart=_main_chart(results, rows, series, answer),
        task_charts=_task_charts(results, series, answer),
        legend=[(entry.label, legend_mark(f"legend-{index}", entry)) for index, entry in enumerate(series)],
        tasks=table_tasks(results),
        lines=plan_lines(results, rows, answer.standing),
        strips=[
            drop_strip(f"strip-{index}", plan, results.run.num_layers, STRIP_WIDTH)
            for index, plan in enumerate(results.plans)
        ],
        quantization=quantization_section(everything, series),
        serving=serving_section(everything, standings(everything), series, answer),
        artifacts=[(row, fingerprint(row.identity), canonical_json(row.identity)) for row in results.artifacts],
    )


def _score_charts(name: str, scores: Sequence[ScoreRow], results: Results, answer: Answer) -> list[Markup]:
    """Of one metric: the base's panels, then a heat map of the iteration states and one of the windows, if any."""
    plan = answer.standing.plan if answer.standing else None
    blocks = set(plan.drop_attn) & set(plan.drop_mlp) if plan else ()
    picked = {"attention": plan.drop_attn, "mlp": plan.drop_mlp, "block": sorted(blocks)} if plan else {}
    num_layers = results.run.num_layers
    layers = layer_scores(scores)
    charts = [score_panels(f"scores-{name}", layers, num_layers, PAGE_WIDTH, picked)] if layers else []
    for number, (title, rows) in enumerate(heat_rows(scores)):
        charts.append(heat_map(f"heat-{name}-{number}", title, rows, num_layers, PAGE_WIDTH))
    return charts


def _training_charts(index: int, tables: TrainingTables, results: Results) -> list[Markup]:
    """A heat map per module, training checkpoints over layers."""
    return [
        heat_map(f"training-{index}-{module}", title, rows, results.run.num_layers, PAGE_WIDTH)
        for module, title, rows in tables.maps
    ]


def _main_chart(results: Results, rows: Sequence[Standing], series: Sequence[Series], answer: Answer) -> Markup | None:
    values = {row.plan.name: row.average for row in rows if row.average is not None}
    if not values:
        return None
    tasks = formatting.count(len(averaged_tasks(results)), "task")
    chart = QualityChart(
        name="average",
        title=f"Average over {tasks}",
        y_title="mean of the primary metrics",
        base=results.plans[0],
        series=series,
        values=values,
        winner=answer.standing.plan.name if answer.standing else None,
        direct_labels=True,
    )
    return quality_chart(chart, PAGE_WIDTH, MAIN_HEIGHT)


def _task_charts(results: Results, series: Sequence[Series], answer: Answer) -> list[Markup]:
    charts = []
    for index, task in enumerate(table_tasks(results)):
        rows = [
            row for row in results.evaluations if row.primary and (row.task, row.metric) == (task.task, task.metric)
        ]
        chart = QualityChart(
            name=f"task-{index}",
            title=task.task,
            y_title=task.detail,
            base=results.plans[0],
            series=series,
            values={row.plan: Estimate(row.value, row.stderr) for row in rows if row.num_fewshot == task.num_fewshot},
            higher_is_better=task.higher_is_better,
            winner=answer.standing.plan.name if answer.standing else None,
        )
        drawing = quality_chart(chart, SMALL_WIDTH, SMALL_HEIGHT)
        if drawing is not None:
            charts.append(drawing)
    return charts
