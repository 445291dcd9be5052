"""The table of variants: what each drops, what that saves, and what it costs in every task."""

from collections.abc import Sequence

from drop_ray.evaluation.estimates import Estimate, PairedDifference
from drop_ray.report import blocks, formatting
from drop_ray.report.answer import Answer, find_answer
from drop_ray.report.blocks import NOTHING, Cell, Column, Strong, Table, estimate_cell, table
from drop_ray.report.charts.heat import drop_strip
from drop_ray.report.divergence_rows import DivergenceRow
from drop_ray.report.fronts import on_fronts
from drop_ray.report.results import Results
from drop_ray.report.rows import EvaluationRow, VariantRow
from drop_ray.report.rule_text import rule_text
from drop_ray.report.statistics import averaged_tasks, primary_tasks, standings

ARROWS = {True: "\u2191", False: "\u2193"}


def variants_sections(results: Results) -> list[blocks.Section]:
    """Always one."""
    if not results.variants:
        return [blocks.Section("Variants", "variants", [blocks.Paragraph("This run made no drop plans.")])]
    averaged = ", ".join(task.task for task in averaged_tasks(results))
    text = (
        f" what {rule_text(results.accept)}, ",
        Strong("open"),
        " what may do so, as far as can be told. On a front is what no other variant beats in both quality and bytes, "
        "or quality and speed. "
        + (f"The average covers {averaged}; the paired" if averaged else "The paired")
        + " difference is variant minus base on the same documents. "
        f"Values are {formatting.PLUS_MINUS} one standard error." + _of_targets(results),
    )
    drawn = "Strips show attention (above) and MLP (below), first layer on the left."
    found: list[blocks.Block] = [
        blocks.Paragraph((Strong("answer"), " marks what the first line names, ", Strong("acceptable"), *text)),
        blocks.Paragraph(drawn, of_drawings=True),
        _table(results, find_answer(results)),
    ]
    if results.evaluations:
        summary = f"All metrics ({formatting.count(len(results.evaluations), 'value')})"
        found.append(blocks.Details(summary, [_metrics(results.evaluations)], in_markdown=False))
    return [blocks.Section("Variants", "variants", found)]


def _table(results: Results, answer: Answer) -> Table:
    tasks = primary_tasks(results)
    columns: list[str | Column] = ["variant", Column("dropped", "text"), Column("parameters", note="kept, saved")]
    columns += [Column("weights", note="of the base's"), Column("KV/token", note="saved")]
    panels = {row.variant: row for row in results.divergences}
    if panels:
        columns += [Column("KL\u00a0" + ARROWS[False], note="to the base"), Column("same top token")]
    columns += ["average", "paired difference"]
    for task in tasks:
        fewshot = "" if task.num_fewshot is None else f", {task.num_fewshot}-shot"
        columns.append(Column(f"{task.task}\u00a0{ARROWS[task.higher_is_better]}", note=f"{task.metric}{fewshot}"))
    checkpoint = [Column("checkpoint", "path")] if any(row.checkpoint for row in results.variants) else []
    values, rows = [task.values(results) for task in tasks], []
    badges, remarks = _badges(answer), _remarks(results, answer)
    for index, standing in enumerate(standings(results)):
        variant = standing.variant
        first = Cell(variant.name, (_made(variant), *remarks.get(variant.name, ())), badges.get(variant.name, ""))
        cells = [first, *_size_cells(index, variant, results)]
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


def _badges(answer: Answer) -> dict[str, str]:
    """What marks a variant by the rule; those that are surely not acceptable have nothing."""
    words = {"acceptable": "acceptable", "cannot tell": "open"}
    found = {row.variant: words[row.outcome] for row in answer.rows if row.loss is not None and row.outcome in words}
    return found | dict.fromkeys(answer.names, "answer")


def _remarks(results: Results, answer: Answer) -> dict[str, list[str]]:
    """What the first line names a variant for, the fronts that it is on, and a refit that brought nothing back."""
    found: dict[str, list[str]] = {}
    for one in answer.named:
        found[one.variant.name] = [", ".join(one.roles)]
    for name, fronts in on_fronts(results).items():
        found.setdefault(name, []).append(f"on the front of {', '.join(fronts)}")
    for row in results.refits:
        if not row.is_closer:
            found.setdefault(row.variant, []).append("not nearer to the base by it")
    return found


def _made(row: VariantRow) -> str:
    return ", ".join(filter(None, (row.strategy, row.metric, f"{row.num_dropped} dropped", *row.changes)))


def _size_cells(index: int, row: VariantRow, results: Results) -> list[Cell]:
    dropped = formatting.dropped_layers(row.drop_attn, row.drop_mlp)
    kept = f"{row.parameters:,} kept, {row.parameters_saved:,} saved"
    kept_kv = f"{row.kv_bytes_per_token:,} bytes kept, {row.kv_bytes_saved_per_token:,} bytes saved"
    saved = formatting.share(row.parameters_saved, row.parameters)
    weights = formatting.percent(row.weight_bytes, results.variants[0].weight_bytes)
    saved_kv = formatting.share(row.kv_bytes_saved_per_token, row.kv_bytes_per_token)
    return [
        Cell("", (dropped,), drawing=drop_strip(f"drops-{index}", row, results.run.num_layers)),
        Cell(formatting.share(row.parameters, row.parameters_saved), (saved,), tooltip=kept),
        Cell(formatting.binary_bytes(row.weight_bytes), (weights,)),
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
