"""The table of variants: what each drops, what that saves, and what it costs in every task."""

from collections.abc import Sequence

from drop_ray.report import formatting
from drop_ray.report.answer import find_answer
from drop_ray.report.blocks import NOTHING, Block, Cell, Column, Details, Paragraph, Section, Strong, Table
from drop_ray.report.charts.heat import drop_strip
from drop_ray.report.results import Results
from drop_ray.report.rows import EvaluationRow
from drop_ray.report.statistics import (
    Estimate,
    PairedDifference,
    Standing,
    Task,
    averaged_tasks,
    primary_tasks,
    standings,
)

ARROWS = {True: "\u2191", False: "\u2193"}


def variants_sections(everything: Results) -> list[Section]:
    """Always one. Quantized variants have a section of their own: what quantizing costs is not taken for what dropping
    does."""
    results = everything.unquantized()
    if not results.variants:
        return [Section("Variants", "variants", [Paragraph("This run made no drop plans.")])]
    averaged = ", ".join(task for task, _ in averaged_tasks(results))
    text = (
        " marks those whose average is at most one standard error of the base's average below it. "
        + (f"The average covers {averaged}; the paired" if averaged else "The paired")
        + " difference is variant minus base on the same documents. "
        f"Values are {formatting.PLUS_MINUS} one standard error."
    )
    drawn = "Strips show attention (above) and MLP (below), first layer on the left."
    blocks: list[Block] = [
        Paragraph((Strong("answer"), " is the variant of the first line; ", Strong("within"), text)),
        Paragraph(drawn, of_drawings=True),
        _table(results, find_answer(results).winner),
    ]
    if everything.evaluations:
        summary = f"All metrics ({formatting.count(len(everything.evaluations), 'value')})"
        blocks.append(Details(summary, [_metrics(everything.evaluations)], in_markdown=False))
    return [Section("Variants", "variants", blocks)]


def _table(results: Results, winner: str | None) -> Table:
    tasks = primary_tasks(results)
    values = [task.values(results) for task in tasks]
    has_checkpoints = any(row.checkpoint for row in results.variants)
    columns = [
        Column("variant", "name"),
        Column("dropped", "text"),
        Column("parameters", note="kept, saved"),
        Column("KV/token", note="saved"),
        Column("average"),
        Column("paired difference"),
        *map(_heading, tasks),
    ]
    rows = []
    for index, standing in enumerate(standings(results)):
        name = standing.variant.name
        row = [*_size_cells(index, standing, results.run.num_layers, winner), _cell(standing.average)]
        row += [_cell(standing.paired, gain="+"), *(_cell(found.get(name)) for found in values)]
        rows.append([*row, Cell(standing.variant.checkpoint or "")] if has_checkpoints else row)
    return Table([*columns, Column("checkpoint", "path")] if has_checkpoints else columns, rows, look="stacked")


def _heading(task: Task) -> Column:
    fewshot = "" if task.num_fewshot is None else f", {task.num_fewshot}-shot"
    return Column(f"{task.task} {ARROWS[task.higher_is_better]}", note=f"{task.metric}{fewshot}")


def _size_cells(index: int, standing: Standing, num_layers: int, winner: str | None) -> list[Cell]:
    row = standing.variant
    parameters, kv_bytes = row.parameters + row.parameters_saved, row.kv_bytes_per_token + row.kv_bytes_saved_per_token
    badge = (
        "answer" if row.name == winner else "within" if standing.within_one_stderr and row.strategy != "base" else ""
    )
    how = ", ".join(filter(None, (row.strategy, row.metric, f"{row.num_dropped} dropped")))
    drops = {"attention": row.drop_attn, "mlp": row.drop_mlp}
    return [
        Cell(row.name, (how,), badge),
        Cell(
            "",
            (formatting.dropped_layers(*drops.values()),),
            drawing=drop_strip(f"drops-{index}", row.name, drops, num_layers),
        ),
        Cell(
            formatting.percent(row.parameters, parameters),
            (formatting.percent(row.parameters_saved, parameters),),
            tooltip=f"{row.parameters:,} kept, {row.parameters_saved:,} saved",
        ),
        Cell(
            formatting.percent(row.kv_bytes_saved_per_token, kv_bytes),
            (formatting.binary_bytes(row.kv_bytes_saved_per_token),),
            tooltip=f"{row.kv_bytes_per_token:,} bytes kept, {row.kv_bytes_saved_per_token:,} bytes saved",
        ),
    ]


def _cell(value: Estimate | PairedDifference | None, gain: str = "") -> Cell:
    if value is None:
        return NOTHING
    error = () if value.stderr is None else (f"{formatting.PLUS_MINUS} {formatting.error(value.value, value.stderr)}",)
    return Cell((gain if value.value > 0 else "") + formatting.number(value.value), error)


def _metrics(rows: Sequence[EvaluationRow]) -> Table:
    names, numbers = ("variant", "task", "metric"), ("few-shot", "documents", "value", "better", "primary")
    return Table(
        [*(Column(name, "name") for name in names), *map(Column, numbers)],
        [
            (
                *(Cell(row.variant), Cell(row.task), Cell(row.metric)),
                NOTHING if row.num_fewshot is None else Cell(str(row.num_fewshot)),
                Cell(f"{row.num_documents:,}"),
                Cell(formatting.estimate(row.value, row.stderr)),
                Cell("higher" if row.higher_is_better else "lower"),
                Cell("yes" if row.primary else ""),
            )
            for row in rows
        ],
    )
