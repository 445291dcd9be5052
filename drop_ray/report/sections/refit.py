"""How plans were refitted, on which text, and what each sub-layer lacked: a part of the section on what came back."""

import math
from collections.abc import Sequence

from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import Table, table
from drop_ray.report.refit_rows import RefitErrorRow, RefitRow
from drop_ray.report.results import Results, grouped

TEXT = (
    "The output projections that are left were solved anew, so that the residual stream comes back to the base's. Here "
    "KL is on the last samples of the text that was fitted to, which nothing was fitted to; "
    f"{formatting.PLUS_MINUS} one standard error of the difference, paired by sample."
)


def refit_blocks(results: Results) -> list[blocks.Block]:
    """None where nothing was refitted."""
    rows = results.refits
    if not rows:
        return []
    found: list[blocks.Block] = [blocks.Heading("How it was refitted"), blocks.Paragraph(TEXT), refit_table(rows)]
    if left := [row.variant for row in rows if not row.is_closer]:
        found.append(
            blocks.Paragraph(
                f"Not seen to be nearer to the base than before: {', '.join(left)}. More samples, or more kinds of "
                "text among them, may help."
            )
        )
    by_variant = grouped(results.refit_errors, lambda row: row.variant)
    if by_variant:
        details = [errors_table(name, errors) for name, errors in by_variant.items()]
        summary = f"What each sub-layer lacked ({formatting.count(len(results.refit_errors), 'projection')})"
        found.append(blocks.Details(summary, details))
    return found


def refit_table(rows: Sequence[RefitRow]) -> Table:
    lines = [
        (
            *(row.variant, row.ridge, row.text, f"{row.samples:,}", f"{row.tokens:,}", str(row.projections)),
            *(formatting.number(row.kl_dropped, 4), formatting.number(row.kl_refitted, 4)),
            _change(row),
        )
        for row in rows
    ]
    heads = ("samples", "tokens", "projections", "KL dropped", "KL refitted", "difference")
    return table(("variant", "ridge", blocks.Column("text", "text"), *heads), lines)


def errors_table(variant: str, rows: Sequence[RefitErrorRow]) -> Table:
    """Shares of the squared length of what was lacking that are left."""
    lines = [
        (
            *(row.module, str(row.layer), "as it is" if math.isinf(row.ridge) else f"{row.ridge:g}"),
            *(_left(row.fitted_before, row.fitted_after), _left(row.held_out_before, row.held_out_after)),
        )
        for row in rows
    ]
    heads = ("sub-layer", "layer", "ridge", "still lacking, fitted", "still lacking, held out")
    return table(heads, lines, title=variant)


def _change(row: RefitRow) -> str:
    value = f"{'+' if row.difference > 0 else ''}{formatting.number(row.difference, 4)}"
    return value if row.stderr is None else f"{value} {formatting.PLUS_MINUS} {formatting.number(row.stderr, 4)}"


def _left(before: float, after: float) -> str:
    return f"{100 * after / before:.0f} %" if before else formatting.NOT_AVAILABLE
