"""The tables of dropping and quantizing, with the same rows and columns for quality, size and speed."""

import math
from collections.abc import Callable, Sequence

from drop_ray.report import formatting
from drop_ray.report.plan_table import TableTask
from drop_ray.report.quantization import Grid, Reconstruction, log_difference, log_perplexities, primary_values
from drop_ray.report.results import PlanRow, Results
from drop_ray.report.serving import Reference, references
from drop_ray.report.serving_tables import spelled_ratio
from drop_ray.report.statistics import (
    Estimate,
    PairedDifference,
    averaged_tasks,
    documents_by_plan,
    paired_average,
    standings,
)
from drop_ray.report.text_table import Cell, TextTable


def quality_tables(results: Results, grid: Grid, tasks: Sequence[TableTask]) -> list[TextTable]:
    """One for each perplexity, one for the average over tasks where there are any."""
    tables = [_perplexity_table(results, grid, task) for task in tasks]
    return [*tables, _average_table(results, grid)] if averaged_tasks(results) else tables


def size_table(results: Results, grid: Grid) -> TextTable:
    """Weights, and the KV cache, which quantizing weights leaves as it is."""
    base = grid.plans[0].weight_bytes

    def cell(form: PlanRow) -> Cell:
        return formatting.binary_bytes(form.weight_bytes), formatting.percent(form.weight_bytes, base)

    weights = _table(results, grid, "Size: weights, of which the base has 100 %; KV cache per token", cell)
    kv_bytes = [(formatting.binary_bytes(plan.kv_bytes_per_token),) for plan in grid.plans]
    rows = [(*row, kv) for row, kv in zip(weights.rows, kv_bytes, strict=True)]
    return TextTable(weights.title, (*weights.headings, "KV, any"), rows, 1)


def speed_tables(results: Results, grid: Grid) -> list[TextTable]:
    """One for each workload with a batch size that everything was measured at."""
    return [_speed_table(results, grid, reference) for reference in references(results)]


def reconstruction_table(rows: Sequence[Reconstruction]) -> TextTable:
    headings = ("plan", "method", "modules", "summed squared error", "rounded to nearest", "ratio")
    lines = [(*_names(row), *_error_cells(row)) for row in rows]
    return TextTable("Summed output error", headings, lines, 2)


def settings_table(grid: Grid) -> TextTable:
    """How each form was made, and where it is."""
    headings = ("plan", "method", "settings", "checkpoint")
    lines = [
        ((plan.name,), (label,), (_settings(form),), (form.checkpoint or formatting.NOT_AVAILABLE,))
        for label in grid.labels
        for plan in grid.plans
        if (form := grid.forms.get((plan.name, label)))
    ]
    return TextTable("Quantized checkpoints", headings, lines, 4)


def _table(results: Results, grid: Grid, title: str, cell: Callable[[PlanRow], Cell]) -> TextTable:
    """cell: of one form of a plan, of which the first is the plan itself."""
    rows = []
    for plan in grid.plans:
        forms = [plan, *(grid.forms.get((plan.name, label)) for label in grid.labels)]
        rows.append(((plan.name,), *(cell(form) if form else _missing("not quantized") for form in forms)))
    return TextTable(title, ("plan", results.run.dtype, *grid.labels), rows, 1)


def _missing(reason: str) -> Cell:
    return formatting.NOT_AVAILABLE, reason


def _perplexity_table(results: Results, grid: Grid, task: TableTask) -> TextTable:
    values, known = primary_values(results, task), log_perplexities(results, task)

    def cell(form: PlanRow) -> Cell:
        value = values.get(form.name)
        if value is None:
            return _missing("not evaluated")
        if form.quantization is None:
            return _spelled(value)
        difference = log_difference(known, form.name, form.quantization.of)
        return formatting.number(value.value), _growth(difference) if difference else "no difference known"

    return _table(results, grid, f"Quality: {task.task}, {task.metric}, lower is better", cell)


def _growth(difference: Estimate) -> str:
    """From a difference of logarithms to per cent, `+2.5 % +- 0.2`."""
    value = 100 * math.expm1(difference.value)
    text = f"{'+' if value > 0 else ''}{formatting.number(value, 2)} %"
    if difference.stderr is None:
        return text
    return f"{text} {formatting.PLUS_MINUS} {100 * math.exp(difference.value) * difference.stderr:.2f}"


def _average_table(results: Results, grid: Grid) -> TextTable:
    tasks, documents = averaged_tasks(results), documents_by_plan(results)
    averages = {row.plan.name: row.average for row in standings(results)}

    def cell(form: PlanRow) -> Cell:
        value = averages[form.name]
        if value is None:
            return _missing("not evaluated")
        if form.quantization is None:
            return _spelled(value)
        plan = form.quantization.of
        own = averages[plan]
        if own is None:
            return formatting.number(value.value), "no difference known"
        paired = paired_average(documents[form.name], documents[plan], tasks)
        difference = paired or PairedDifference(value.value - own.value, None, 0)
        return formatting.number(value.value), formatting.signed(difference.value, difference.stderr)

    title = f"Quality: mean of the primary metrics of {formatting.count(len(tasks), 'task')}, higher is better"
    return _table(results, grid, title, cell)


def _spelled(value: Estimate) -> Cell:
    if value.stderr is None:
        return (formatting.number(value.value),)
    return formatting.number(value.value), f"{formatting.PLUS_MINUS} {formatting.error(value.value, value.stderr)}"


def _speed_table(results: Results, grid: Grid, reference: Reference) -> TextTable:
    base = grid.plans[0]

    def cell(form: PlanRow) -> Cell:
        if form is base:
            return spelled_ratio(1.0), "by definition"
        row = reference.rows.get(form.name)
        if row is None:
            return _missing("not measured")
        return spelled_ratio(row.ratio), f"[{spelled_ratio(row.low)}, {spelled_ratio(row.high)}]"

    title = f"Speed: output tokens/s to the base's, workload {reference.workload}, batch {reference.batch_size}"
    return _table(results, grid, title, cell)


def _names(row: Reconstruction) -> tuple[Cell, Cell]:
    assert row.plan.quantization is not None
    return (row.plan.quantization.of,), (row.plan.quantization.label,)


def _error_cells(row: Reconstruction) -> tuple[Cell, ...]:
    ratio = formatting.NOT_AVAILABLE if row.ratio is None else formatting.number(row.ratio, 3)
    return (str(row.num_modules),), (f"{row.error:.4g}",), (f"{row.round_to_nearest:.4g}",), (ratio,)


def _settings(form: PlanRow) -> str:
    """`gptq, 4 bits, groups of 128, symmetric, desc_act`."""
    assert form.quantization is not None
    how = form.quantization
    groups = f"groups of {how.group_size}" if how.group_size > 0 else "a group per row"
    parts = [how.method, f"{how.bits} bits", groups, "symmetric" if how.symmetric else "with zero points"]
    return ", ".join([*parts, "desc_act"] if how.desc_act else parts)
