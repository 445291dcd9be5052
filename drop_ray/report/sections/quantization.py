"""Dropping and quantizing: quality, size and speed with the same rows and columns, whether effects add up, errors."""

import math
from collections.abc import Callable, Mapping, Sequence

from drop_ray.evaluation.estimates import Estimate
from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import Cell, Column, Table, estimate_cell, ratio_cell, table
from drop_ray.report.charts.xy import charts
from drop_ray.report.quantization import (
    DifferenceRow,
    EffectsRow,
    Grid,
    Reconstruction,
    differences,
    effects,
    perplexity_tasks,
    quantization_grid,
    reconstructions,
)
from drop_ray.report.results import Results
from drop_ray.report.rows import Quantization, VariantRow
from drop_ray.report.sections.quality import AVERAGE, legend
from drop_ray.report.sections.quantization_charts import column_series, error_charts, size_charts
from drop_ray.report.serving import Reference, references
from drop_ray.report.statistics import Task, averaged_tasks, averages, documents_by_task, paired_average

ERRORS = 2
"""So many standard errors from zero an excess is taken for real."""
RECONSTRUCTION_TEXT = (
    "Squared difference of a sub-layer's output to that of the unquantized weights, on samples that the method did not "
    "calibrate on. Rounding to nearest has the same bits and groups."
)
EFFECTS = ("dropping alone", "quantizing alone", "their sum", "both", "both less the sum")
SIZE_TEXT = "Colours are variants, shapes are columns; what was quantized from one variant hangs on a dotted line."
NAMES = ("variant", "method")


def quantization_sections(results: Results) -> list[blocks.Section]:
    """None where nothing was quantized."""
    grid = quantization_grid(results)
    if grid is None:
        return []
    tables = [*quality_tables(results, grid), size_table(results, grid), *speed_tables(results, grid)]
    found: list[blocks.Block] = [blocks.Paragraph(grid_text(results, grid)), blocks.Columns(tables)]
    if sizes := charts(size_charts(results, grid)):
        marks = legend(column_series(results, grid).values(), "column")
        found.append(blocks.Columns(sizes, "Quality against size", [SIZE_TEXT], legend=marks))
    by_task = {task: rows for task in perplexity_tasks(results) if (rows := effects(results, task))}
    if by_task:
        found.append(blocks.Heading("Is the sum of the effects the effect of both?"))
    for task, rows in by_task.items():
        found += [blocks.Paragraph(effects_text(rows)), effects_table(task, rows)]
    if errors := reconstructions(results, grid):
        found += [
            *(blocks.Heading("Reconstruction"), blocks.Paragraph(RECONSTRUCTION_TEXT)),
            blocks.Bullets(reconstruction_sentences(errors)),
            blocks.Columns(charts(error_charts(results, grid))),
            reconstruction_table(errors),
        ]
    if sentences := experts_sentences(grid):
        found += [blocks.Heading("Experts without calibration"), blocks.Bullets(sentences)]
    checkpoints = settings_table(grid)
    found.append(blocks.Details(f"Quantized checkpoints ({len(checkpoints.rows)})", [checkpoints]))
    return [blocks.Section("Dropping and quantizing", "quantization", found)]


def grid_text(results: Results, grid: Grid) -> str:
    """How to read the tables."""
    dtype = results.run.dtype
    text = (
        f"A row is a variant, a column how its weights are stored: in {dtype}, or quantized after dropping. In columns "
        f"of methods the smaller number is the difference to the same row in {dtype}, of perplexities in per cent "
        f"({formatting.PLUS_MINUS} one standard error, where it can be paired by document); sizes and speeds "
        "are relative to the base. Brackets are 95 % intervals."
    )
    if not results.serving:
        text += " Speed was not measured in this run."
    if not results.evaluations:
        text += " Nothing was evaluated in this run."
    if grid.left_out:
        text += f" Not quantized, and so not among the rows: {formatting.count(grid.left_out, 'variant')}."
    return text


def quality_tables(results: Results, grid: Grid) -> list[Table]:
    """One for each perplexity, one for the average over tasks where there are any."""
    tables = []
    for task in perplexity_tasks(results):
        title = f"Quality: {task.task}, {task.metric}, lower is better"
        changes = {row.variant: _growth(row) for row in differences(results, task)}
        tables.append(_quality_table(results, grid, title, task.values(results), changes))
    if tasks := averaged_tasks(results):
        title = f"Quality: {AVERAGE.metric} of {formatting.count(len(tasks), 'task')}, higher is better"
        tables.append(_quality_table(results, grid, title, averages(results), _changes_of_averages(results)))
    return tables


def size_table(results: Results, grid: Grid) -> Table:
    """Weights, and the KV cache, which quantizing weights leaves as it is."""
    base = grid.rows[0].weight_bytes

    def cell(variant: VariantRow) -> Cell:
        share = formatting.percent(variant.weight_bytes, base)
        return Cell(formatting.binary_bytes(variant.weight_bytes), (share,))

    title = "Size: weights, of which the base has 100 %; KV cache per token"
    weights = _table(results, grid, title, cell)
    kv_bytes = [formatting.binary_bytes(row.kv_bytes_per_token) for row in grid.rows]
    rows = [(*row, Cell(kv)) for row, kv in zip(weights.rows, kv_bytes, strict=True)]
    return Table([*weights.columns, Column("KV, any")], rows, title)


def speed_tables(results: Results, grid: Grid) -> list[Table]:
    """One for each workload with a batch size that everything was measured at."""
    return [_speed_table(results, grid, reference) for reference in references(results)]


def effects_table(task: Task, rows: Sequence[EffectsRow]) -> Table:
    """Changes of log-perplexity, nats per token."""
    lines = []
    for row in rows:
        changes = (row.dropping, row.quantizing, row.dropping + row.quantizing, row.both)
        spelled = [formatting.signed(change, None) for change in changes]
        lines.append((row.variant, row.label, *spelled, formatting.signed(row.excess, row.stderr)))
    note = f"{task.task}, log-perplexity less the base's, nats per token; above 0 is worse."
    return table((*NAMES, *EFFECTS), lines, names=2, note=note)


def effects_text(rows: Sequence[EffectsRow]) -> str:
    """What the excess means, and where it is the largest."""
    farthest = max(rows, key=lambda row: abs(row.excess))
    percent = 100 * math.expm1(farthest.excess)
    direction = "above" if percent >= 0 else "below"
    text = (
        "Where both together change log-perplexity by the sum of what each changes alone, dropping and quantizing can "
        "be chosen separately. Above the sum a dropped model suffers more from quantizing than the base does, below it "
        f"less. The farthest from its sum is {farthest.variant} with {farthest.label}: its perplexity is "
        f"{formatting.number(abs(percent), 2)} % {direction} what the two effects alone would give."
    )
    known = [row for row in rows if row.stderr is not None]
    if not known:
        return text
    real = [row for row in known if abs(row.excess) > ERRORS * (row.stderr or 0.0)]
    names = f" ({', '.join(f'{row.variant} with {row.label}' for row in real)})" if real else ""
    return f"{text} More than two standard errors from the sum: {len(real)} of {len(known)}{names}."


def reconstruction_sentences(rows: Sequence[Reconstruction]) -> list[str]:
    """`gptq: the summed error is 0.61 (base) to 0.70 (attention-8) of that of rounding to nearest.` for each label."""
    sentences = []
    for label in dict.fromkeys(row.label for row in rows):
        known = [(row.ratio, row.variant) for row in rows if row.label == label and row.ratio is not None]
        if known:
            (low, best), (high, worst) = min(known), max(known)
            span = least = formatting.number(low, 2)
            if formatting.number(high, 2) != least:
                span = f"{least} ({best}) to {formatting.number(high, 2)} ({worst})"
            sentences.append(f"{label}: the summed error is {span} of that of rounding to nearest.")
    return sentences


def reconstruction_table(rows: Sequence[Reconstruction]) -> Table:
    lines = []
    for row in rows:
        share = formatting.NOT_AVAILABLE if row.ratio is None else formatting.number(row.ratio, 3)
        sums = (f"{row.error:.4g}", f"{row.round_to_nearest:.4g}")
        lines.append((row.variant, row.label, str(row.num_modules), *sums, share))
    return table((*NAMES, "sub-layers", "summed squared error", "rounded to nearest", "ratio"), lines, names=2)


def experts_sentences(grid: Grid) -> list[str]:
    """How many experts of each quantized variant are rounded to nearest, and which."""
    rows = [row for column in grid.columns.values() for row in column.values()]
    return [
        f"{row.name}: no calibration token met {how.rounded_experts} of {formatting.count(how.experts, 'expert')}, "
        f"whose weights are rounded to nearest ({how.rounded}). More samples, or more various ones, would meet more."
        for row in rows
        if (how := row.quantization) is not None and how.rounded_experts
    ]


def settings_table(grid: Grid) -> Table:
    """How each was made, and where it is."""
    lines = [
        (name, label, _settings(row.quantization), row.checkpoint or formatting.NOT_AVAILABLE)
        for label, column in grid.columns.items()
        for name, row in column.items()
        if row.quantization
    ]
    return table((*NAMES, "settings", Column("checkpoint", "path")), lines, names=3)


def _table(results: Results, grid: Grid, title: str, cell: Callable[[VariantRow], Cell]) -> Table:
    """cell: of a variant as it is, or quantized."""
    rows = []
    for row in grid.rows:
        found = [column.get(row.name) for column in grid.columns.values()]
        rows.append((Cell(row.name), cell(row), *(cell(one) if one else _missing("not quantized") for one in found)))
    return table(("variant", results.run.dtype, *grid.columns), rows, title=title)


def _missing(reason: str) -> Cell:
    return Cell(formatting.NOT_AVAILABLE, (reason,))


def _quality_table(
    results: Results, grid: Grid, title: str, values: Mapping[str, Estimate], changes: Mapping[str, str]
) -> Table:
    """values, changes: by variant; a change is to the same variant without quantization."""

    def cell(variant: VariantRow) -> Cell:
        value = values.get(variant.name)
        if value is None:
            return _missing("not evaluated")
        if variant.quantization is None:
            return estimate_cell(value.value, value.stderr)
        return Cell(formatting.number(value.value), (changes.get(variant.name, "no difference known"),))

    return _table(results, grid, title, cell)


def _growth(row: DifferenceRow) -> str:
    """From a difference of logarithms to per cent, `+2.5 % +- 0.2`."""
    value = 100 * math.expm1(row.difference)
    text = f"{'+' if value > 0 else ''}{formatting.number(value, 2)} %"
    if row.stderr is None:
        return text
    return f"{text} {formatting.PLUS_MINUS} {100 * math.exp(row.difference) * row.stderr:.2f}"


def _changes_of_averages(results: Results) -> dict[str, str]:
    tasks, means, documents, changes = averaged_tasks(results), averages(results), documents_by_task(results), {}
    for row in results.variants:
        if row.quantization and {row.name, row.quantization.of} <= means.keys():
            paired = paired_average(documents, row.name, row.quantization.of, tasks)
            found = paired or Estimate(means[row.name].value - means[row.quantization.of].value, None)
            changes[row.name] = formatting.signed(found.value, found.stderr)
    return changes


def _speed_table(results: Results, grid: Grid, reference: Reference) -> Table:
    def cell(variant: VariantRow) -> Cell:
        if variant is grid.rows[0]:
            return Cell(formatting.ratio(1.0), ("by definition",))
        row = reference.rows.get(variant.name)
        return ratio_cell(row.ratio, row.low, row.high) if row else _missing("not measured")

    title = f"Speed: output tokens/s to the base's, workload {reference.workload}, batch {reference.batch_size}"
    return _table(results, grid, title, cell)


def _settings(how: Quantization) -> str:
    """`gptq, 4 bits, groups of 128, symmetric, desc_act`."""
    groups = f"groups of {how.group_size}" if how.group_size > 0 else "a group per row"
    parts = [how.method, f"{how.bits} bits", groups, "symmetric" if how.symmetric else "with zero points"]
    return ", ".join([*parts, "desc_act"] if how.desc_act else parts)
