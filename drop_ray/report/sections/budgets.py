"""Plans with limits: what was asked, what was reckoned, and what was measured."""

from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import Column, Table, table
from drop_ray.report.budget_rows import KL, SCORE, BudgetRow, budgets_measured
from drop_ray.report.results import Results
from drop_ray.text.quantities import BYTES

TEXT = (
    "Each plan drops what keeps its limits. The first choice has the smallest sum of scores that does; from there, "
    "modules were swapped as long as the KL to the base on the calibration samples fell and the limits held. KL is "
    "measured, sizes and speedups are reckoned. What was measured of these stands beside them: the size of the weight "
    "files, and what the serving benchmark found where it had the same requests."
)
NAMES = {
    "bytes": "weights",
    "kv_bytes_per_token": "KV cache of a token",
    "speedup": "speedup",
    "sub_layers": "sub-layers",
    SCORE: "sum of scores",
    KL: "KL on the calibration samples",
}


def budgets_sections(results: Results) -> list[blocks.Section]:
    """None where no plan has limits."""
    rows = list(budgets_measured(results))
    if not rows:
        return []
    found: list[blocks.Block] = [blocks.Paragraph(TEXT), _table(rows)]
    if missed := sorted({row.variant for row in rows if row.holds is False}):
        found.append(blocks.Paragraph(f"By what was measured, a limit does not hold: {', '.join(missed)}."))
    return [blocks.Section("A budget instead of a number", "budgets", found)]


def _table(rows: list[BudgetRow]) -> Table:
    lines = [
        (
            *(row.variant, _name(row), row.asked or formatting.NOT_AVAILABLE, _value(row, row.base)),
            *(_value(row, row.first), _value(row, row.plan), _value(row, row.measured)),
            {True: "yes", False: "no", None: formatting.NOT_AVAILABLE}[row.holds],
        )
        for row in rows
    ]
    columns = (
        *("variant", "what", "limit", "base"),
        *(Column("first choice", note="smallest sum of scores"), Column("plan", note="after swaps")),
        *("measured", "holds"),
    )
    return table(columns, lines, names=2)


def _name(row: BudgetRow) -> str:
    requests = f" at {row.prompt_tokens}+{row.output_tokens}, batch {row.batch_size}" if row.batch_size else ""
    return NAMES[row.quantity] + requests + (f", after {row.quantized}" if row.quantized else "")


def _value(row: BudgetRow, value: float | None) -> str:
    if value is None:
        return formatting.NOT_AVAILABLE
    if row.quantity in ("bytes", "kv_bytes_per_token"):
        unit = row.asked.rpartition(" ")[2]  # a multiple has none
        return f"{value / BYTES[unit]:.5g} {unit}" if unit in BYTES else formatting.binary_bytes(int(value))
    if row.quantity == "speedup":
        return f"{formatting.ratio(value)}x"
    return f"{value:.0f}" if row.quantity == "sub_layers" else formatting.number(value, 4)
