"""The table of variants: what each drops, what that saves, and what it costs in every task."""

from collections.abc import Sequence

from drop_ray.evaluation.estimates import Estimate, PairedDifference
from drop_ray.report import blocks, formatting
from drop_ray.report.answer import find_answer
from drop_ray.report.blocks import NOTHING, Cell, Column, Strong, Table, estimate_cell, table
from drop_ray.report.charts.heat import drop_strip
from drop_ray.report.divergence_rows import DivergenceRow
from drop_ray.report.results import Results
from drop_ray.report.rows import EvaluationRow
from drop_ray.report.statistics import Standing, averaged_tasks, primary_tasks, standings

ARROWS = {True: "\u2191", False: "\u2193"}


def variants_sections(everything: Results) -> list[blocks.Section]:
    """Always one. Quantized variants have a section of their own: what quantizing costs is not taken for what dropping
    does."""
    results = everything.unquantized()
    if not results.variants:
        return [blocks.Section("Variants", "variants", [blocks.Paragraph("This run made no drop plans.")])]
    averaged = ", ".join(task.task for task in averaged_tasks(results))
    text = (
        " marks those whose average is at most one standard error of the base's average below it. "
        + (f"The average covers {averaged}; the paired" if averaged else "The paired")
        + " difference is variant minus base on the same documents. "
        f"Values are {formatting.PLUS_MINUS} one standard error." + _of_targets(results)
    )
    drawn = "Strips show attention (above) and MLP (below), first layer on the left."
    found: list[blocks.Block] = [
        blocks.Paragraph((Strong("answer"), " is the variant of the first line; ", Strong("within"), text)),
        blocks.Paragraph(drawn, of_drawings=True),
        _table(results, find_answer(results).winner),
    ]
    if everything.evaluations:
        summary = f"All metrics ({formatting.count(len(everything.evaluations), 'value')})"
        found.append(blocks.Details(summary, [_metrics(everything.evaluations)], in_markdown=False))
    return [blocks.Section("Variants", "variants", found)]


def _table(results: Results, winner: str | None) -> Table:
    tasks = primary_tasks(results)
    columns: list[str | Column] = ["variant", Column("dropped", "text"), Column("parameters", note="kept, saved")]
    columns += [Column("KV/token", note="saved")]
    panels = {row.variant: row for row in results.divergences}
    if panels:
        columns += [Column("KL\u00a0" + ARROWS[False], note="to the base"), Column("same top token")]
    columns += ["average", "paired difference"]
    for task in tasks:
        fewshot = "" if task.num_fewshot is None else f", {task.num_fewshot}-shot"
        columns.append(Column(f"{task.task}\u00a0{ARROWS[task.higher_is_better]}", note=f"{task.metric}{fewshot}"))
    checkpoint = [Column("checkpoint", "path")] if any(row.checkpoint for row in results.variants) else []
    values, rows = [task.values(results) for task in tasks], []
    in_vain = {row.variant for row in results.refits if not row.is_closer}
    for index, standing in enumerate(standings(results)):
        variant = standing.variant
        remark = "not nearer to the base by it" if variant.name in in_vain else ""
        cells = _size_cells(index, standing, results.run.num_layers, winner, remark)
        cells += _panel_cells(panels.get(variant.name)) if panels else []
        cells += [
            _cell(standing.average),
            _cell(standing.paired, gain="+"),
            *(_cell(found.get(variant.name)) for found in values),
        ]
        rows.append([*cells, *(Cell(variant.checkpoint or "") for _ in checkpoint)])
    return table([*columns, *checkpoint], rows, look="stacked")


def _of_targets(results: Results) -> str:
    """What is different in values of tasks that ended when the difference was known."""
    tasks = list(dict.fromkeys(row.task for row in results.targets if row.low is not None))
    if not tasks:
        return ""
    return (
        f" On {', '.join(tasks)} a variant's value is the base's over all documents plus the difference on those that "
        "both were evaluated on."
    )


def _size_cells(index: int, standing: Standing, num_layers: int, winner: str | None, remark: str) -> list[Cell]:
    row = standing.variant
    how = ", ".join(filter(None, (row.strategy, row.metric, f"{row.num_dropped} dropped", *row.changes, remark)))
    within = "within" if standing.within_one_stderr and row.strategy != "base" else ""
    dropped = formatting.dropped_layers(row.drop_attn, row.drop_mlp)
    kept = f"{row.parameters:,} kept, {row.parameters_saved:,} saved"
    kept_kv = f"{row.kv_bytes_per_token:,} bytes kept, {row.kv_bytes_saved_per_token:,} bytes saved"
    saved = formatting.share(row.parameters_saved, row.parameters)
    saved_kv = formatting.share(row.kv_bytes_saved_per_token, row.kv_bytes_per_token)
    return [
        Cell(row.name, (how,), "answer" if row.name == winner else within),
        Cell("", (dropped,), drawing=drop_strip(f"drops-{index}", row, num_layers)),
        Cell(formatting.share(row.parameters, row.parameters_saved), (saved,), tooltip=kept),
        Cell(saved_kv, (formatting.binary_bytes(row.kv_bytes_saved_per_token),), tooltip=kept_kv),
    ]


def _panel_cells(panel: DivergenceRow | None) -> list[Cell]:
    if panel is None:
        return [NOTHING, NOTHING]
    error = f"{formatting.PLUS_MINUS} {formatting.score(panel.kl_stderr)}"
    return [Cell(formatting.score(panel.kl), (error,)), Cell(f"{100 * panel.top1_agreement:.1f} %")]


def _cell(found: Estimate | PairedDifference | None, gain: str = "") -> Cell:
    return estimate_cell(found.value, found.stderr, gain) if found else NOTHING


def _metrics(rows: Sequence[EvaluationRow]) -> Table:
    lines = [
        (
            *(row.variant, row.task, row.metric),
            formatting.NOT_AVAILABLE if row.num_fewshot is None else str(row.num_fewshot),
            *(f"{row.num_documents:,}", formatting.estimate(row.value, row.stderr)),
            *("higher" if row.higher_is_better else "lower", "yes" if row.primary else ""),
        )
        for row in rows
    ]
    numbers = ("few-shot", "documents", "value", "better", "primary")
    return table(("variant", "task", "metric", *numbers), lines, names=3)
