"""What the tasks cannot tell apart and KL can: a part of the section on quality."""

from collections.abc import Sequence

from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import Cell, Column, Strong, table
from drop_ray.report.divergence import SEPARATED
from drop_ray.report.results import Results
from drop_ray.report.told_apart import ToldApartRow, told_apart

SHOWN = 12


def told_apart_blocks(results: Results) -> list[blocks.Block]:
    """None without two variants that have both tasks and a panel."""
    rows = list(told_apart(results))
    if not rows:
        return []
    hidden = sorted((row for row in rows if row.by_kl and not row.by_tasks), key=lambda row: -row.kl_standard_errors)
    found: list[blocks.Block] = [
        blocks.Heading("What the tasks cannot tell apart"),
        blocks.Paragraph(_verdict(rows, hidden)),
    ]
    if hidden:
        found.append(_table(hidden))
    return found


def _verdict(rows: Sequence[ToldApartRow], hidden: Sequence[ToldApartRow]) -> Sequence[str]:
    by_tasks, by_kl = sum(row.by_tasks for row in rows), sum(row.by_kl for row in rows)
    text = (
        f"Of {formatting.count(len(rows), 'pair')} of variants the tasks tell {by_tasks} apart (the 95 % interval of "
        f"the difference, paired by document, leaves out 0), and KL to the base {by_kl} (at least {SEPARATED:g} "
        "standard errors, paired by sample). "
    )
    if not hidden:
        return (f"{text}There is no pair that KL tells apart and the tasks do not.",)
    first = hidden[0]
    return (
        f"{text}KL alone tells {len(hidden)} apart, such as ",
        Strong(first.nearer),
        ", which predicts more as the base does, and ",
        Strong(first.farther),
        ": their tasks agree as far as can be told, their predictions do not.",
    )


def _table(hidden: Sequence[ToldApartRow]) -> blocks.Table:
    columns: list[str | Column] = ["nearer to the base", "farther", Column("tasks", note="farther less nearer")]
    columns += ["documents", Column("KL", note="farther less nearer"), "standard errors"]
    lines = [
        [
            Cell(row.nearer),
            Cell(row.farther),
            Cell(formatting.signed(row.task_difference, None), (_interval(row),)),
            Cell(f"{row.documents:,}"),
            Cell(formatting.score(row.kl_difference), (f"{formatting.PLUS_MINUS} {formatting.score(row.kl_stderr)}",)),
            Cell(formatting.number(row.kl_standard_errors, 1)),
        ]
        for row in hidden[:SHOWN]
    ]
    rest = f"The other {len(hidden) - SHOWN} are in tables/told_apart.parquet." if len(hidden) > SHOWN else ""
    return table(columns, lines, names=2, title="Pairs that only KL tells apart", note=rest)


def _interval(row: ToldApartRow) -> str:
    return f"[{formatting.number(row.task_low)}, {formatting.number(row.task_high)}]"
