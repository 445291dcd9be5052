"""How far the calibration text decides the plans: what each would be by other texts, and by all of them."""

from collections.abc import Iterator, Sequence

from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import Column, Table, table
from drop_ray.report.results import Results, grouped
from drop_ray.report.sensitivity_rows import AgreementRow, SensitivityRow

CONSENSUS = "consensus"
TEXT = (
    "What each plan would drop if it were chosen by another calibration text or fewer samples. consensus is the mean "
    "rank over the texts, each with its largest number of samples; it is a plan of its own. KL is the mean divergence "
    "from the base in nats per token, on the text of the divergence panels. Differences are to the plan as it is, by "
    f"sample, {formatting.PLUS_MINUS} one standard error. Searches, plans that score again and again, baselines and "
    "plans from files are not in it."
)
AGREEMENT = (
    "tau is Kendall's tau-b of the importance of all that a plan chooses from: 1 is the same order, 0 no relation. "
    "Shared are the dropped sub-layers that both texts name."
)


def sensitivity_sections(results: Results) -> list[blocks.Section]:
    """None where no texts were compared."""
    rows = results.sensitivity
    if not rows:
        return []
    found: list[blocks.Block] = [blocks.Paragraph([*_summary(rows)]), blocks.Paragraph(TEXT), sensitivity_table(rows)]
    if results.agreements:
        pairs = formatting.count(len(results.agreements), "pair")
        found.append(blocks.Details(f"Agreement of the texts ({pairs})", [agreement_table(results.agreements)]))
    return [blocks.Section("How far the calibration text decides", "sensitivity", found)]


def sensitivity_table(rows: Sequence[SensitivityRow]) -> Table:
    lines = [
        (
            *(row.plan, row.text, formatting.NOT_AVAILABLE if row.num_samples is None else str(row.num_samples)),
            formatting.dropped_layers(row.drop_attn, row.drop_mlp),
            f"{100 * row.overlap:.0f} %",
            _estimate(row.kl, row.kl_stderr),
            "the same" if row.overlap == 1 else _signed(row.difference, row.difference_stderr),
        )
        for row in rows
    ]
    heads = ("plan", "calibration text", "samples", Column("drops", "text"), "shared", "KL", "KL less the plan's own")
    return table(heads, lines, names=2)


def agreement_table(rows: Sequence[AgreementRow]) -> Table:
    lines = [
        (
            row.plan,
            f"{row.text}, {row.num_samples} samples",
            f"{row.other_text}, {row.other_num_samples} samples",
            formatting.NOT_AVAILABLE if row.tau is None else formatting.number(row.tau, 2),
            f"{100 * row.overlap:.0f} %",
        )
        for row in rows
    ]
    return table(("plan", "text", "other text", "tau", "shared"), lines, names=3, note=AGREEMENT)


def _summary(rows: Sequence[SensitivityRow]) -> Iterator[str]:
    """Of how many plans the text decides what is dropped, and what that costs at most."""
    plans = grouped([row for row in rows if row.text != CONSENSUS], lambda row: row.plan)
    steady = [plan for plan, found in plans.items() if all(row.overlap == 1 for row in found)]
    yield f"{len(steady)} of {formatting.count(len(plans), 'plan')} would drop the same by every text"
    worst = max(
        (row for row in rows if row.difference is not None),
        key=lambda row: abs(row.difference or 0.0),
        default=None,
    )
    if worst is not None and worst.difference:
        yield (
            f"; the KL of a plan changes by {_signed(worst.difference, worst.difference_stderr)} at most "
            f"({worst.plan} by {worst.text}{_of(worst.num_samples)})"
        )
    yield "."


def _of(num_samples: int | None) -> str:
    return "" if num_samples is None else f", {formatting.count(num_samples, 'sample')}"


def _estimate(value: float | None, stderr: float | None) -> str:
    return formatting.NOT_AVAILABLE if value is None else formatting.estimate(value, stderr)


def _signed(value: float | None, stderr: float | None) -> str:
    return formatting.NOT_AVAILABLE if value is None else formatting.signed(value, stderr)
