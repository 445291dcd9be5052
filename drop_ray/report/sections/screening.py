"""Which variants got tasks and texts, and why the others did not."""

from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import NOTHING, Cell, Column, table
from drop_ray.report.results import Results


def screening_sections(results: Results) -> list[blocks.Section]:
    """None where every variant was evaluated without a choice."""
    if not results.screening:
        return []
    kept = sum(row.kept for row in results.screening)
    text = (
        f"Every variant was compared with the base on a text, and {kept} of {len(results.screening)} were evaluated on "
        "the tasks: those that evaluation.screen keeps by their KL, where equal variants count once. The base always "
        "is, and a quantized variant with the plan that it is made of. What was left out has its panel in every table, "
        "and no accuracy."
    )
    panels = {row.variant: row for row in results.divergences}
    parameters = {row.name: row.parameters for row in results.variants}
    rows = []
    for row in sorted(results.screening, key=lambda row: not row.kept):
        panel = panels.get(row.variant)
        stderr = (f"{formatting.PLUS_MINUS} {formatting.score(panel.kl_stderr)}",) if panel else ()
        rows.append(
            [
                Cell(row.variant),
                Cell(formatting.score(panel.kl), stderr) if panel else NOTHING,
                Cell(f"{100 * panel.top1_agreement:.1f} %") if panel else NOTHING,
                Cell(f"{parameters[row.variant]:,}"),
                Cell("evaluated" if row.kept else "left out"),
                Cell(row.reason),
            ]
        )
    columns: list[str | Column] = ["variant", Column("KL", note="nats per token"), "same top token"]
    columns += [Column("parameters", note="kept"), Column("tasks", "name"), Column("why", "name")]
    found: list[blocks.Block] = [blocks.Paragraph(text), table(columns, rows)]
    return [blocks.Section("Who was evaluated", "screening", found)]
