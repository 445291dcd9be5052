"""What was lost, and what came back: every plan as it was dropped, refitted, quantized, and both."""

from collections.abc import Callable, Sequence

from drop_ray.config.accept import POINTS
from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import NOTHING, Cell, Column, Table, table
from drop_ray.report.recovery import AS_DROPPED, RecoveryRow, recovery
from drop_ray.report.results import Results
from drop_ray.report.sections.refit import refit_blocks
from drop_ray.report.statistics import averaged_tasks

Three = tuple[float | None, float | None, float | None]


def recovery_sections(results: Results) -> list[blocks.Section]:
    """None where no plan was changed after dropping."""
    rows = recovery(results)
    if not rows:
        return []
    found: list[blocks.Block] = [blocks.Paragraph(_text(results))]
    if back := _came_back(rows):
        found.append(blocks.Paragraph(back))
    found.append(recovery_table(rows))
    return [blocks.Section("What was lost, and what came back", "recovery", [*found, *refit_blocks(results)])]


def recovery_table(rows: Sequence[RecoveryRow]) -> Table:
    """Without the columns of which nothing is known."""
    columns: list[str | Column] = ["variant", Column("changed", "name")]
    columns += [Column("KL to the base", note="nats per token"), Column("of it came back", note="of the plan's")]
    columns += [Column("lost", note="points, to the base"), Column("came back", note="points, to the plan")]
    lines = [[Cell(row.variant), Cell(row.changes), *_cells(row)] for row in rows]
    known = [index for index in range(len(columns)) if index < 2 or any(line[index] != NOTHING for line in lines)]
    return table([columns[index] for index in known], [[line[index] for index in known] for line in lines], names=2)


def _cells(row: RecoveryRow) -> list[Cell]:
    return [
        _cell((row.kl, row.kl_low, row.kl_high), formatting.score),
        _cell((row.came_back, row.came_back_low, row.came_back_high), _share),
        _cell((row.lost, row.lost_low, row.lost_high), _points),
        _cell((row.gained, row.gained_low, row.gained_high), _points),
    ]


def _text(results: Results) -> str:
    """Which text and which tasks the numbers are of."""
    parts, text = [], results.divergence_text
    if text is not None and results.divergences:
        parts.append(
            f"KL is on {text.source}: {formatting.count(text.num_samples, 'sample')} of {text.seq_len:,} tokens. What "
            "came back of it is relative to the plan as it was dropped, on the same samples; below 0 more was lost."
        )
    if tasks := averaged_tasks(results):
        names = ", ".join(task.task for task in tasks)
        parts.append(f"Points are of the mean over {names}, of 100, paired by document.")
    return " ".join([*parts, "Small print has 95 % intervals."])


def _came_back(rows: Sequence[RecoveryRow]) -> str:
    """Of how many variants some of the KL surely came back, and where the most."""
    known = [row for row in rows if row.came_back is not None and row.changes != AS_DROPPED]
    surely = [row for row in known if row.came_back_low is not None and row.came_back_low > 0]
    if not surely:
        return ""
    most = max(surely, key=lambda row: row.came_back or 0.0)
    share = f"{_share(most.came_back or 0.0)} ({_bounds((None, most.came_back_low, most.came_back_high), _share)})"
    return (
        f"Of {len(surely)} of {formatting.count(len(known), 'changed variant')} a part of the KL surely came back, the "
        f"most of {most.variant}: {share}."
    )


def _cell(three: Three, spelled: Callable[[float], str]) -> Cell:
    return NOTHING if three[0] is None else Cell(spelled(three[0]), (_bounds(three, spelled),))


def _bounds(three: Three, spelled: Callable[[float], str]) -> str:
    return " to ".join(spelled(bound) for bound in three[1:] if bound is not None)


def _share(value: float) -> str:
    return f"{formatting.number(100 * value, 0)} %"


def _points(value: float) -> str:
    return formatting.number(POINTS * value, 2)
