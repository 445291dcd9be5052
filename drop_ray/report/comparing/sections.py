"""The report that sets runs side by side, as sections of blocks: how the others differ from the first."""

from collections.abc import Iterator, Sequence

from drop_ray.evaluation.estimates import PairedDifference
from drop_ray.report import blocks, formatting
from drop_ray.report.blocks import Column, Strong, table
from drop_ray.report.comparing.common import Side, common_averaged, common_tasks, comparable_panels, reasons
from drop_ray.report.comparing.facts import facts_blocks
from drop_ray.report.comparing.matching import Group, groups_of
from drop_ray.report.comparing.variants import (
    NORMAL_95,
    interval_text,
    kl_pairs_of,
    names_of,
    pairs_of,
    tasks_blocks,
    variants_blocks,
)
from drop_ray.report.results import grouped
from drop_ray.report.sections.scores import heat_row
from drop_ray.report.statistics import Task
from drop_ray.report.training import rank_correlation

NAMED = 3
"""Differences that the first paragraph names."""


def comparison_sections(sides: Sequence[Side]) -> list[blocks.Section]:
    """The whole report."""
    groups, tasks, averaged = groups_of(sides), common_tasks(sides), common_averaged(sides)
    title = " beside ".join(side.label for side in sides)
    found = [
        blocks.Section(title, "answer", [*_answer(sides, groups, averaged)]),
        blocks.Section("Variants side by side", "variants", [*variants_blocks(sides, groups, averaged)]),
    ]
    if shared := [*tasks_blocks(sides, groups, tasks)]:
        found.append(blocks.Section("Task by task", "tasks", shared))
    if importance := [*_importance(sides)]:
        found.append(blocks.Section("Which layers matter, by run", "scores", importance))
    found.append(blocks.Section("What cannot be compared", "not-compared", [*_not_compared(sides, groups)]))
    found.append(blocks.Section("What was run", "provenance", [*facts_blocks(sides)]))
    return found


def _answer(sides: Sequence[Side], groups: Sequence[Group], tasks: Sequence[Task]) -> Iterator[blocks.Block]:
    shared = [group for group in groups if group.is_shared and group.members[0] != sides[0].base]
    alike = sum(group.drops_alike for group in shared)
    yield blocks.Paragraph(
        f"{formatting.count(len(shared), 'variant')} {'is' if len(shared) == 1 else 'are'} in more than one of "
        f"{len(sides)} runs, of which {alike} {'drops' if alike == 1 else 'drop'} the same layers in each."
    )
    told = [*_told(sides, groups, tasks)]
    if not tasks:
        yield blocks.Paragraph("No task was asked in the same way by all, so that quality is not compared.")
    elif not told:
        or_kl = " or in KL" if comparable_panels(sides) else ""
        yield blocks.Paragraph(
            f"No variant differs from that of {sides[0].label} by more than chance, on {names_of(tasks)}{or_kl}."
        )
    for text, _ in sorted(told, key=lambda one: -one[1])[:NAMED]:
        yield blocks.Paragraph(text)
    if len(told) > NAMED:
        yield blocks.Paragraph(f"{len(told) - NAMED} more differ.")
    yield blocks.Paragraph(
        "Differences are paired by document or sample, with 95 % intervals that are not widened for their number.",
        note=True,
    )


def _told(
    sides: Sequence[Side], groups: Sequence[Group], tasks: Sequence[Task]
) -> Iterator[tuple[Sequence[str], float]]:
    """Sentences of differences whose interval leaves out 0, with their size in standard errors."""
    documents = [(group, side, pair) for group in groups for side, pair in pairs_of(sides, group, tasks)]
    yield from _sentences(sides, "The average of ", "document", documents)
    if comparable_panels(sides):
        samples = [(group, side, pair) for group in groups for side, pair in kl_pairs_of(sides, group)]
        yield from _sentences(sides, "The KL of ", "sample", samples)


def _sentences(
    sides: Sequence[Side], what: str, unit: str, found: Sequence[tuple[Group, Side, PairedDifference]]
) -> Iterator[tuple[Sequence[str], float]]:
    for group, side, pair in found:
        if pair.stderr and abs(pair.value) > NORMAL_95 * pair.stderr:
            more = "above" if pair.value > 0 else "below"
            drops = "" if group.drops_alike else ", which drops other layers there"
            sentence = (
                what,
                Strong(group.name),
                f" of {side.label} is {formatting.number(abs(pair.value))} {more} that of {sides[0].label}{drops}: "
                f"{interval_text(pair)} on {formatting.count(pair.num_documents, unit)}.",
            )
            yield sentence, abs(pair.value) / pair.stderr


def _importance(sides: Sequence[Side]) -> Iterator[blocks.Block]:
    """How alike the runs rank layers, by metric and module, where they have the same layers."""
    scores = [
        grouped(
            (row for row in side.results.scores if row.drop_state == "base" and row.gap == 1),
            lambda row: (row.metric, row.module),
        )
        for side in sides
    ]
    rows, strips = [], []
    for place, of_first in scores[0].items():
        profile = {row.layer: row.mean for row in of_first}
        alike = [
            index for index, found in enumerate(scores) if {row.layer for row in found.get(place, ())} == set(profile)
        ]
        if len(alike) < 2:
            continue
        metric, module = place
        strips.append(
            blocks.HeatStrip(
                f"compared-{metric}-{module}",
                f"{module}: importance ({metric})",
                1 + max(profile),
                [heat_row(sides[index].label, scores[index][place]) for index in alike],
            )
        )
        for index in alike[1:]:
            found = rank_correlation({row.layer: row.mean for row in scores[index][place]}, profile)
            rows.append(
                (metric, module, sides[index].label, formatting.NOT_AVAILABLE if found is None else f"{found:.2f}")
            )
    if rows:
        columns = ("metric", "sub-layer", "run", Column("rank correlation", note=f"with {sides[0].label}"))
        yield table(columns, rows, names=3, note="Spearman's, of the base's layers: 1 is the same ranking.")
        yield from strips


def _not_compared(sides: Sequence[Side], groups: Sequence[Group]) -> Iterator[blocks.Block]:
    said = [*dict.fromkeys(reasons(sides))]
    for index, side in enumerate(sides):
        if alone := [group.name for group in groups if not group.is_shared and group.members[index] is not None]:
            said.append(f"Only {side.label} has {', '.join(alone)}.")
    if all(side.results.divergences for side in sides) and comparable_panels(sides):
        yield blocks.Paragraph("KL was taken to the same base on the same text by all, so that its values compare.")
    yield blocks.Bullets(said) if said else blocks.Paragraph("Everything that was measured is compared.")
