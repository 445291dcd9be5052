"""How variants of a run compare with the base: averages over tasks and differences paired by document.

Only primary metrics where higher is better are averaged, and only over the tasks that the base was evaluated on, so
that every average covers the same tasks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drop_ray.evaluation.estimates import Estimate, PairedDifference, mean_over_tasks, paired_difference
from drop_ray.report.results import Results, grouped
from drop_ray.report.rows import EvaluationRow, VariantRow

Documents = Mapping[tuple[str, str, str], Mapping[int, float]]
"""Values by (variant, task, metric), then by doc_id; what has no documents is missing."""


@dataclass(frozen=True)
class Standing:
    """Where a variant stands against the base."""

    variant: VariantRow
    """Name of the variant."""
    average: Estimate | None
    """Mean of the primary metrics; none unless it was evaluated on every averaged task, with a number on one."""
    paired: PairedDifference | None
    """Variant less base by document; none for the base, and where a task lacks common documents."""
    base_average: Estimate | None
    """The base's mean over the same tasks."""
    tasks: tuple[str, ...]
    """Names of the tasks of `average`: all but those of which the variant has no number."""


@dataclass(frozen=True)
class Task:
    """A task by its primary metric."""

    task: str
    """Name of the task or text."""
    metric: str
    """The primary metric."""
    higher_is_better: bool
    """False for perplexities."""
    num_fewshot: int | None
    """Examples before each question."""

    def values(self, results: Results) -> dict[str, Estimate]:
        """The metric, by name of variant."""
        return {
            row.variant: Estimate(row.value, row.stderr)
            for row in results.evaluations
            if row.primary and (row.task, row.metric, row.num_fewshot) == (self.task, self.metric, self.num_fewshot)
        }


def primary_tasks(results: Results) -> list[Task]:
    """The tasks with a primary metric, in order of evaluation."""
    rows = (row for row in results.evaluations if row.primary)
    return list(dict.fromkeys(Task(row.task, row.metric, row.higher_is_better, row.num_fewshot) for row in rows))


def averaged_tasks(results: Results) -> list[Task]:
    """The base's tasks whose primary metric is better when higher, in order of evaluation.

    Tasks of which the base has no number are left out.
    """
    tasks = [task for task in primary_tasks(results) if task.higher_is_better]
    own = {task: task.values(results).get(results.variants[0].name) for task in tasks}
    return [task for task, value in own.items() if value is not None and math.isfinite(value.value)]


def primary_rows(results: Results) -> dict[tuple[str, str, str], EvaluationRow]:
    """The rows of primary metrics, by (variant, task, metric)."""
    return {(row.variant, row.task, row.metric): row for row in results.evaluations if row.primary}


def without_number(results: Results) -> dict[str, list[str]]:
    """Names of variants by task, where the value that would be averaged is NaN or infinite."""
    rows = (row for row in results.evaluations if row.primary and row.higher_is_better)
    lost = grouped((row for row in rows if not math.isfinite(row.value)), lambda row: row.task)
    return {task: [row.variant for row in found] for task, found in lost.items()}


def averages(results: Results) -> dict[str, Estimate]:
    """Means over the averaged tasks by variant, without those that have no number on one."""
    tasks = {(task.task, task.metric) for task in averaged_tasks(results)}
    averaged = (row for row in results.evaluations if row.primary and (row.task, row.metric) in tasks)
    return {
        variant: mean_over_tasks([Estimate(row.value, row.stderr) for row in rows])
        for variant, rows in grouped(averaged, lambda row: row.variant).items()
        if len(rows) == len(tasks) and all(math.isfinite(row.value) for row in rows)
    }


def standings(results: Results) -> list[Standing]:
    """One per variant, in their order. A variant without a number on some task is compared on the others."""
    averaged, documents = averaged_tasks(results), documents_by_task(results)
    found = primary_rows(results)

    def mean(variant: VariantRow, tasks: Sequence[Task]) -> Estimate:
        rows = [found[variant.name, task.task, task.metric] for task in tasks]
        return mean_over_tasks([Estimate(row.value, row.stderr) for row in rows])

    rows = []
    for variant in results.variants:
        base = results.variants[0]
        own = [found.get((variant.name, task.task, task.metric)) for task in averaged]
        tasks = [task for task, row in zip(averaged, own, strict=True) if row and math.isfinite(row.value)]
        if None in own or not tasks:
            rows.append(Standing(variant, None, None, None, ()))
            continue
        average, of_base = mean(variant, tasks), mean(base, tasks)
        paired = None if variant is base else paired_average(documents, variant.name, base.name, tasks)
        names = tuple(task.task for task in tasks)
        rows.append(Standing(variant, average, paired, of_base, names))
    return rows


def documents_by_task(results: Results) -> Documents:
    """The documents of every variant."""
    by_task = grouped(results.documents, lambda row: (row.variant, row.task, row.metric))
    return {place: {row.doc_id: row.value for row in rows} for place, rows in by_task.items()}


def paired_average(documents: Documents, one: str, other: str, tasks: Sequence[Task]) -> PairedDifference | None:
    """The mean over tasks of one variant less another, paired by document; None where a task lacks common documents."""
    pairs = []
    for task in tasks:
        of_one, of_other = (documents.get((name, task.task, task.metric), {}) for name in (one, other))
        pair = paired_difference(of_one, of_other)
        if pair is None:
            return None
        pairs.append(pair)
    if not pairs:
        return None
    mean = mean_over_tasks([Estimate(pair.value, pair.stderr) for pair in pairs])
    return PairedDifference(mean.value, mean.stderr, sum(pair.num_documents for pair in pairs))
