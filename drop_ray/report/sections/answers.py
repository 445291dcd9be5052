"""Single answers: which became wrong or right, how sure variants are of theirs, and how many were needed."""

from collections.abc import Sequence

from drop_ray.report import blocks, formatting
from drop_ray.report.answers import FlipRow, flips
from drop_ray.report.blocks import NOTHING, Cell, Column, Table, table
from drop_ray.report.judgement import CalibrationRow, TargetRow
from drop_ray.report.results import Results

SHOWN_ROWS = 15
FLIPS = (
    "Two variants with the same accuracy may answer other questions rightly. Of the documents that base and variant "
    "both have: how many answers were right and are wrong, and the other way round, with the exact two-sided p of "
    "McNemar's test. A small p says that the counts differ by more than chance; few flips, that little changed at all."
)
CALIBRATION = (
    "The confidence of an answer to a multiple-choice question is the probability of the most likely choice among the "
    "choices, by their log-likelihoods. The calibration error is the mean distance of confidence and accuracy in 10 "
    "bins of equal width, weighted by documents; 0 is a model that knows how often it is right. Few documents make it "
    "larger, for both alike: compare it with the base's on the same documents."
)
TARGETS = (
    "A task ended on a variant when the difference to the base was known well enough. Its documents come in one random "
    "order, and the interval holds at all of its looks at once, so that ending early does no harm. The variant's value "
    "in other tables is the base's over all documents plus the difference on those that both have. Where the interval "
    "has 0 in it, more documents would be needed to tell variant and base apart."
)


def answers_sections(everything: Results) -> list[blocks.Section]:
    """None without an evaluation by documents. What quantizing changes is in the tables' files."""
    results = everything.unquantized()
    found = [*_flips(list(flips(results))), *_calibration(results.calibrations), *_targets(results.targets)]
    return [blocks.Section("Answer by answer", "answers", found)] if found else []


def _flips(rows: Sequence[FlipRow]) -> list[blocks.Block]:
    if not rows:
        return []
    columns = ("variant", "task", "documents", "right to wrong", "wrong to right", Column("flipped"), "p")
    lines = [
        (
            *(row.variant, row.task, f"{row.documents:,}", f"{row.right_to_wrong:,}", f"{row.wrong_to_right:,}"),
            *(f"{100 * row.flipped:.1f} %", _p_value(row.p_value)),
        )
        for row in rows
    ]
    return [blocks.Heading("Answers that changed"), blocks.Paragraph(FLIPS), _folded(table(columns, lines, names=2))]


def _folded(found: Table) -> blocks.Block:
    """A long table only when it is asked for."""
    count = len(found.rows)
    return found if count <= SHOWN_ROWS else blocks.Details(f"All {formatting.count(count, 'row')}", [found])


def _p_value(value: float) -> str:
    return formatting.score(value) if value >= 0.001 else "< 0.001"


def _calibration(rows: Sequence[CalibrationRow]) -> list[blocks.Block]:
    if not rows:
        return []
    columns = ("variant", "task", "documents", "accuracy", "confidence", "calibration error", Column("base's error"))
    lines = [
        (
            *(Cell(row.variant), Cell(row.task), Cell(f"{row.documents:,}")),
            *map(_share, (row.accuracy, row.confidence, row.error, row.base_error)),
        )
        for row in rows
        if row.documents
    ]
    found: list[blocks.Block] = [blocks.Heading("How sure the answers are"), blocks.Paragraph(CALIBRATION)]
    if lines:
        found.append(_folded(table(columns, lines, names=2)))
    missing = list(dict.fromkeys(row.variant for row in rows if not row.documents))
    if missing:
        text = (
            f"There are no confidences of {', '.join(missing)}: these evaluations were made before confidences were "
            "kept. In a new store they are made with them."
        )
        found.append(blocks.Paragraph(text, note=True))
    return found


def _share(value: float | None) -> Cell:
    return NOTHING if value is None else Cell(formatting.number(value))


def _targets(rows: Sequence[TargetRow]) -> list[blocks.Block]:
    if not rows:
        return []
    columns: list[str | Column] = ["variant", "task", Column("documents", note="of the task's")]
    columns += [Column("difference", note="interval"), Column("asked for", note="confidence")]
    columns += [Column("against the base", "text")]
    lines = [
        [
            *(Cell(row.variant), Cell(row.task), Cell(f"{row.documents:,}", (f"of {row.population:,}",))),
            _difference(row),
            Cell(f"{formatting.PLUS_MINUS} {row.within:g}", (f"{100 * row.confidence:g} %",)),
            Cell(_verdict(row)),
        ]
        for row in rows
    ]
    return [
        blocks.Heading("As many documents as it took"),
        blocks.Paragraph(TARGETS),
        _folded(table(columns, lines, names=2, look="stacked")),
    ]


def _difference(row: TargetRow) -> Cell:
    if row.difference is None or row.low is None or row.high is None:
        return NOTHING
    interval = f"[{formatting.number(row.low)}, {formatting.number(row.high)}]"
    return Cell(formatting.signed(row.difference, None), (interval,))


def _verdict(row: TargetRow) -> str:
    if row.no_interval:
        return row.no_interval
    if row.documents == row.population:
        return "all documents were needed: the difference is exact on them"
    if not row.told_apart:
        return "cannot be told apart at this width"
    return "higher" if row.low is not None and row.low > 0 else "lower"
