"""What dropping breaks: every variant at every damage gate, and how far a strategy goes until one stops it."""

from collections.abc import Mapping, Sequence

from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import NOTHING, Cell, Column, Strong, Table, table
from drop_ray.report.gate_rows import CliffRow, GateRow, VerdictRow
from drop_ray.report.results import Results, grouped

# Words for what the table marks.
BADGES = {"accept": "accept", "regression": "regression", "cannot tell": "open"}
SAYS_NOTHING = ("not informative", "skipped")


def gates_sections(results: Results) -> list[blocks.Section]:
    """None where no gates were asked."""
    if not results.verdicts and not results.cliffs:
        return []
    found: list[blocks.Block] = []
    if results.verdicts:
        by_gate = grouped(results.gates, lambda row: row.gate)
        shown = {gate: rows for gate, rows in by_gate.items() if any(row.outcome not in SAYS_NOTHING for row in rows)}
        silent = [rows[0].reason for gate, rows in by_gate.items() if gate not in shown]
        found += [blocks.Paragraph(_rule(results.verdicts[0])), _table(results.verdicts, shown)]
        if stopped := [row for row in results.verdicts if row.outcome == "regression"]:
            found += [blocks.Paragraph("Stopped:"), blocks.Bullets([f"{row.variant}: {row.reason}" for row in stopped])]
        if silent:
            found += [blocks.Paragraph("These gates say nothing of this model:"), blocks.Bullets(silent)]
    if results.cliffs:
        found += [blocks.Heading("Cliffs"), blocks.Paragraph(_search()), _cliffs(results.cliffs)]
    return [blocks.Section("What dropping breaks", "gates", found)]


def _rule(verdict: VerdictRow) -> tuple[str, ...]:
    tolerance, twice = formatting.number(verdict.tolerance, 2), formatting.number(2 * verdict.tolerance, 2)
    return (
        "Each value is the share of a gate's items that are right. Below it stands the difference to the base on the "
        "same items, with its bounds. ",
        *(Strong("regression"), f": a loss of more than {tolerance} whose lower bound is above 0. "),
        *(Strong("accept"), f": at every gate a loss of at most {tolerance} whose upper bound is below {twice}. "),
        *(Strong("open"), ": neither; more items would tell. "),
        f"Bounds are exact, with a confidence of {verdict.confidence:g}: those of a loss from below hold for all gates "
        "of a variant at once, those from above each by itself.",
    )


def _table(verdicts: Sequence[VerdictRow], by_gate: Mapping[str, Sequence[GateRow]]) -> Table:
    columns: list[str | Column] = ["variant"]
    columns += [Column(rows[0].title, note=f"{rows[0].items} items") for rows in by_gate.values()]
    bases = [next((row.base for row in rows if row.base is not None), None) for rows in by_gate.values()]
    lines = [[Cell("base"), *(NOTHING if one is None else Cell(formatting.number(one, 2)) for one in bases)]]
    for verdict in verdicts:
        own = {gate: row for gate, rows in by_gate.items() for row in rows if row.variant == verdict.variant}
        cells = [_cell(own[gate]) if gate in own else NOTHING for gate in by_gate]
        lines.append([Cell(verdict.variant, badge=BADGES[verdict.outcome], tooltip=verdict.reason), *cells])
    return table(columns, lines, look="stacked")


def _cell(row: GateRow) -> Cell:
    """The share, what is lost, and a mark where the gate does not accept it."""
    badge = BADGES[row.outcome] if row.outcome in ("regression", "cannot tell") else ""
    if row.share is None:
        return Cell(formatting.NOT_AVAILABLE, badge=badge, tooltip=row.reason)
    notes = (
        []
        if row.loss is None
        else [f"{_signed(-row.loss)} ({_signed(-_known(row.high))} to {_signed(-_known(row.low))})"]
    )
    return Cell(formatting.number(row.share, 2), tuple(notes), badge, row.reason)


def _known(bound: float | None) -> float:
    assert bound is not None, "a loss has bounds"
    return bound


def _signed(change: float) -> str:
    """One digit where two decimals would hide on which side of 0 it is."""
    if change == 0:
        return "0.00"
    text = f"{change:.1g}".replace("-", formatting.MINUS) if abs(change) < 0.005 else formatting.number(change, 2)
    return f"+{text}" if change > 0 else text


def _search() -> str:
    return (
        "How many a strategy can drop until a gate stops it, by bisection: this takes for granted that to drop more "
        "never mends what was broken. The largest number that passes and the next one were both asked."
    )


def _cliffs(cliffs: Sequence[CliffRow]) -> Table:
    columns = (
        "strategy",
        "passes",
        "of",
        "evaluations",
        Column("drops", "text"),
        Column("plan", "path"),
        Column("the next larger", "text"),
    )
    rows = []
    for cliff in cliffs:
        asked = ", ".join(map(str, cliff.asked))
        known = (
            (f"{len(cliff.known)} plans of the run" if len(cliff.known) > 1 else "1 plan of the run",)
            if cliff.known
            else ()
        )
        dropped = formatting.dropped_layers(cliff.drop_attn, cliff.drop_mlp)
        rows.append(
            [
                *(Cell(cliff.strategy), Cell(str(cliff.largest)), Cell(str(cliff.counts))),
                *(
                    Cell(str(len(cliff.asked)), (asked, *known)),
                    Cell(dropped),
                    Cell(cliff.plan or formatting.NOT_AVAILABLE),
                ),
                Cell(f"{cliff.fails}: {cliff.reason}" if cliff.fails else "there is none"),
            ]
        )
    return table(columns, rows, look="stacked")
