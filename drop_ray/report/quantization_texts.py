"""What is said of dropping and quantizing, the same for HTML and Markdown, and the table of both effects."""

import math
from collections.abc import Sequence

from drop_ray.report import formatting
from drop_ray.report.plan_table import TableTask
from drop_ray.report.quantization import BothEffects, Grid, Reconstruction
from drop_ray.report.results import Results
from drop_ray.report.text_table import Cell, TextTable

ERRORS = 2
"""So many standard errors from zero an excess is taken for real."""
RECONSTRUCTION_TEXT = (
    "Squared difference of a module's output to that of the unquantized weights, on samples that the method did not "
    "calibrate on. Rounding to nearest has the same bits and groups."
)
EFFECTS_HEADINGS = ("plan", "method", "dropping alone", "quantizing alone", "their sum", "both", "both less the sum")


def grid_text(results: Results, grid: Grid) -> str:
    """How to read the tables."""
    dtype = results.run.dtype
    text = (
        f"A row is a plan, a column how its weights are stored: in {dtype}, or quantized after dropping. In columns of "
        f"methods the smaller number is the difference to the same plan in {dtype}, of perplexities in per cent "
        f"({formatting.PLUS_MINUS} one standard error, where it can be paired by document); sizes and speeds "
        "are relative to the base. Brackets are 95 % intervals."
    )
    if not results.serving:
        text += " Speed was not measured in this run."
    if not results.evaluations:
        text += " Nothing was evaluated in this run."
    if grid.left_out:
        text += f" Not quantized, and so not among the rows: {formatting.count(len(grid.left_out), 'plan')}."
    return text


def effects_table(task: TableTask, rows: Sequence[BothEffects]) -> TextTable:
    """Changes of log-perplexity, nats per token."""
    title = f"{task.task}, log-perplexity less the base's, nats per token"
    return TextTable(title, EFFECTS_HEADINGS, [_effect_cells(row) for row in rows], 2)


def effects_text(rows: Sequence[BothEffects]) -> str:
    """What the excess means, and where it is the largest."""
    farthest = max(rows, key=lambda row: abs(row.excess))
    percent = 100 * math.expm1(farthest.excess)
    direction = "above" if percent >= 0 else "below"
    text = (
        "Where both together change log-perplexity by the sum of what each changes alone, dropping and quantizing can "
        "be chosen separately. Above the sum a dropped model suffers more from quantizing than the base does, below it "
        f"less. The farthest from its sum is {farthest.plan} with {farthest.label}: its perplexity is "
        f"{formatting.number(abs(percent), 2)} % {direction} what the two effects alone would give."
    )
    known = [row for row in rows if row.stderr is not None]
    if not known:
        return text
    real = [row for row in known if abs(row.excess) > ERRORS * (row.stderr or 0.0)]
    names = f" ({', '.join(f'{row.plan} with {row.label}' for row in real)})" if real else ""
    return f"{text} More than two standard errors from the sum: {len(real)} of {len(known)}{names}."


def reconstruction_sentences(grid: Grid, rows: Sequence[Reconstruction]) -> list[str]:
    """`gptq: the summed error is 0.61 (base) to 0.70 (attention-8) of that of rounding to nearest.` for each label."""
    sentences = []
    for label in grid.labels:
        known = [
            (row.ratio, row.plan.quantization.of)
            for row in rows
            if row.plan.quantization and row.plan.quantization.label == label and row.ratio is not None
        ]
        if known:
            (low, best), (high, worst) = min(known), max(known)
            span = least = formatting.number(low, 2)
            if formatting.number(high, 2) != least:
                span = f"{least} ({best}) to {formatting.number(high, 2)} ({worst})"
            sentences.append(f"{label}: the summed error is {span} of that of rounding to nearest.")
    return sentences


def _effect_cells(row: BothEffects) -> tuple[Cell, ...]:
    changes = (row.dropping, row.quantizing, row.dropping + row.quantizing, row.both)
    excess = formatting.signed(row.excess, row.stderr)
    return (row.plan,), (row.label,), *((formatting.signed(change, None),) for change in changes), (excess,)
