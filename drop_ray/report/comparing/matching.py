"""Variants of several runs beside each other, and their difference in quality, paired by document."""

from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.evaluation.estimates import Estimate, PairedDifference, mean_over_tasks, paired_difference
from drop_ray.report.comparing.common import Side
from drop_ray.report.quantization import LOG_PERPLEXITY
from drop_ray.report.rows import VariantRow
from drop_ray.report.statistics import Task, primary_rows


@dataclass(frozen=True)
class Group:
    """What is set beside each other: variants of one name, or that drop and change the same."""

    name: str
    """Name in the first run that has it."""
    members: tuple[VariantRow | None, ...]
    """The variant of each run; none where a run has none."""

    @property
    def present(self) -> list[VariantRow]:
        return [member for member in self.members if member is not None]

    @property
    def is_shared(self) -> bool:
        """Whether two runs at least have it."""
        return len(self.present) > 1

    @property
    def drops_alike(self) -> bool:
        """Whether all of its variants drop the same layers."""
        return len({*map(_drops, self.present)}) == 1


def groups_of(sides: Sequence[Side]) -> list[Group]:
    """Every variant of every run once, the bases first.

    Variants of one name are a group; another of equal drops and changes joins the group that its run lacks.
    """
    slots: dict[str, list[VariantRow | None]] = {}
    for index, side in enumerate(sides):
        later = []
        for row in side.results.variants:
            base = sides[0].base.name if row is side.base else row.name
            if base in slots:
                slots[base][index] = row
            else:
                later.append(row)
        for row in later:
            name = next(
                (name for name, found in slots.items() if found[index] is None and _equal(found, row)), row.name
            )
            slots.setdefault(name, [None] * len(sides))[index] = row
    return [Group(name, tuple(found)) for name, found in slots.items()]


def average_of(side: Side, variant: str, tasks: Sequence[Task]) -> Estimate | None:
    """The mean over the tasks; None unless the variant was evaluated on each."""
    rows = primary_rows(side.results)
    found = [rows.get((variant, task.task, task.metric)) for task in tasks]
    return mean_over_tasks([Estimate(row.value, row.stderr) for row in found if row]) if found and all(found) else None


def task_difference(one: Side, variant: str, other: Side, beside: str, task: Task) -> PairedDifference | None:
    """On one task, `beside` of the other run less `variant` of this one, by document; of a text in nats per token."""
    for metric in (task.metric, LOG_PERPLEXITY):
        of_one = one.documents.get((variant, task.task, metric), {})
        pair = paired_difference(other.documents.get((beside, task.task, metric), {}), of_one)
        if pair is not None:
            return pair
    return None


def kl_less(one: Side, variant: str, other: Side, beside: str) -> PairedDifference | None:
    """KL of `beside` of the other run less that of `variant` of this one, by sample."""
    return paired_difference(other.kl.get(beside, {}), one.kl.get(variant, {}))


def mean_difference(
    one: Side, variant: str, other: Side, beside: str, tasks: Sequence[Task]
) -> PairedDifference | None:
    """The mean of `task_difference` over the tasks; None where one lacks common documents."""
    pairs = [task_difference(one, variant, other, beside, task) for task in tasks]
    known = [pair for pair in pairs if pair is not None]
    if not pairs or len(known) < len(pairs):
        return None
    mean = mean_over_tasks([Estimate(pair.value, pair.stderr) for pair in known])
    return PairedDifference(mean.value, mean.stderr, sum(pair.num_documents for pair in known))


def _equal(members: Sequence[VariantRow | None], row: VariantRow) -> bool:
    """Whether a group's variants drop and change what the row does."""
    return any(
        member is not None
        and member.strategy != "base"
        and (_drops(member), member.changes) == (_drops(row), row.changes)
        for member in members
    )


def _drops(row: VariantRow) -> tuple[frozenset[int], frozenset[int]]:
    """Without the order, which is that of choice."""
    return frozenset(row.drop_attn), frozenset(row.drop_mlp)
