"""Tables of variants side by side: sizes, quality with differences to the first run, KL, speed and damage gates."""

import math
from collections.abc import Iterator, Sequence

from drop_ray.evaluation.estimates import Estimate, PairedDifference
from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import NOTHING, Cell, Column, estimate_cell, ratio_cell, table
from drop_ray.report.comparing.common import Side, common_speed, comparable_panels
from drop_ray.report.comparing.facts import DIFFERS
from drop_ray.report.comparing.matching import Group, average_of, kl_less, mean_difference, task_difference
from drop_ray.report.statistics import Task

NORMAL_95 = 1.96


def pairs_of(sides: Sequence[Side], group: Group, tasks: Sequence[Task]) -> Iterator[tuple[Side, PairedDifference]]:
    """Each later run's difference to the first run, where both have the variant and common documents."""
    for first, side, beside in _beside_first(sides, group):
        if pair := mean_difference(sides[0], first, side, beside, tasks):
            yield side, pair


def kl_pairs_of(sides: Sequence[Side], group: Group) -> Iterator[tuple[Side, PairedDifference]]:
    """The same of KL, by sample."""
    for first, side, beside in _beside_first(sides, group):
        if pair := kl_less(sides[0], first, side, beside):
            yield side, pair


def _beside_first(sides: Sequence[Side], group: Group) -> Iterator[tuple[str, Side, str]]:
    """The variant's name in the first run, each later run that has it too, and its name there."""
    if (first := group.members[0]) is not None:
        for side, member in zip(sides[1:], group.members[1:], strict=True):
            if member is not None:
                yield first.name, side, member.name


def variants_blocks(sides: Sequence[Side], groups: Sequence[Group], tasks: Sequence[Task]) -> Iterator[blocks.Block]:
    panels = [{row.variant: row for row in side.results.divergences} for side in sides]
    speeds, verdicts = common_speed(sides), [{row.variant: row for row in side.results.verdicts} for side in sides]
    columns: list[str | Column] = ["variant", Column("run", "name"), Column("dropped", "text"), "parameters", "weights"]
    columns += [
        "KV/token",
        Column("average", note=f"of {names_of(tasks)}" if tasks else ""),
        Column("difference", note=f"to {sides[0].label}"),
    ]
    columns += [Column("KL", note="to its own base")] if any(panels) else []
    columns += [Column("KL, difference", note=f"to {sides[0].label}")] if comparable_panels(sides) else []
    if speeds:
        place = next(iter(next(found for found in speeds if found).values()))
        columns.append(Column("output tokens/s", note=f"to its own base's, {place.workload} x{place.batch_size}"))
    columns += [Column("gates", "name")] if any(verdicts) else []
    rows: list[list[str | Cell]] = []
    for group in groups:
        pairs = {side.label: pair for side, pair in pairs_of(sides, group, tasks)}
        of_kl = {side.label: pair for side, pair in kl_pairs_of(sides, group)}
        for index, (side, member) in enumerate(zip(sides, group.members, strict=True)):
            if member is None or not group.is_shared:
                continue
            row: list[str | Cell] = [
                Cell(group.name, () if member.name == group.name else (f"called {member.name}",)),
                side.label,
                Cell(
                    formatting.dropped_layers(member.drop_attn, member.drop_mlp),
                    badge="" if group.drops_alike else DIFFERS,
                ),
                f"{member.parameters:,}",
                formatting.binary_bytes(member.weight_bytes),
                formatting.binary_bytes(member.kv_bytes_per_token),
                _estimate(average_of(side, member.name, tasks)),
                _difference(pairs.get(side.label)),
            ]
            if any(panels):
                panel = panels[index].get(member.name)
                row.append(estimate_cell(panel.kl, panel.kl_stderr) if panel else NOTHING)
            if comparable_panels(sides):
                row.append(_difference(of_kl.get(side.label)))
            if speeds:
                speed = speeds[index].get(member.name)
                row.append(ratio_cell(speed.ratio, speed.low, speed.high) if speed else NOTHING)
            if any(verdicts):
                verdict = verdicts[index].get(member.name)
                row.append(Cell(verdict.outcome, tooltip=verdict.reason) if verdict else NOTHING)
            rows.append(row)
    if not rows:
        yield blocks.Paragraph("No variant is in more than one run.")
        return
    yield blocks.Paragraph(
        "Variants of one name, or of equal drops, beside each other. Averages are over the tasks that all runs asked "
        f"in the same way; values are {formatting.PLUS_MINUS} one standard error, differences have 95 % intervals."
    )
    yield table(columns, rows, look="stacked")


def tasks_blocks(sides: Sequence[Side], groups: Sequence[Group], tasks: Sequence[Task]) -> Iterator[blocks.Block]:
    rows = []
    for group in groups:
        for task in tasks:
            values = [task.values(side.results) for side in sides]
            first = group.members[0]
            for index, (side, member) in enumerate(zip(sides, group.members, strict=True)):
                if member is None or not group.is_shared or member.name not in values[index]:
                    continue
                pair = None
                if index and first is not None:
                    pair = task_difference(sides[0], first.name, side, member.name, task)
                rows.append(
                    (
                        *(group.name, task.task, task.metric, side.label),
                        _estimate(values[index][member.name]),
                        _difference(pair),
                        NOTHING if pair is None else Cell(str(pair.num_documents)),
                    )
                )
    if rows:
        columns = (
            "variant",
            "task",
            "metric",
            "run",
            "value",
            Column("difference", note=f"to {sides[0].label}"),
            "documents",
        )
        yield blocks.Details(f"All values ({len(rows)})", [table(columns, rows, names=4)])


def _estimate(found: Estimate | None) -> Cell:
    return NOTHING if found is None or not math.isfinite(found.value) else estimate_cell(found.value, found.stderr)


def _difference(pair: PairedDifference | None) -> Cell:
    if pair is None:
        return NOTHING
    notes = (interval_text(pair),) if pair.stderr is not None else ()
    return Cell(("+" if pair.value > 0 else "") + formatting.number(pair.value), notes)


def interval_text(pair: PairedDifference) -> str:
    half = NORMAL_95 * (pair.stderr or 0)
    return f"[{formatting.number(pair.value - half)}, {formatting.number(pair.value + half)}]"


def names_of(tasks: Sequence[Task]) -> str:
    return ", ".join(task.task for task in tasks)
