"""How plans compare with the base: averages over tasks, their standard errors, and differences paired by document.

In: `Results`. Out: one `Standing` per plan. Only primary metrics where higher is better are averaged, and only over the
tasks that the base was evaluated on, so that every average covers the same tasks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drop_ray.report.results import PlanRow, Results

TaskMetric = tuple[str, str]
"""(task, metric)."""
Documents = Mapping[TaskMetric, Mapping[int, float]]
"""Values of one plan by task and doc_id; a task without documents is missing."""


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error; None where the error is unknown."""

    value: float
    stderr: float | None


@dataclass(frozen=True)
class PairedDifference:
    """Plan minus base on the same documents; `num_documents` pairs in all."""

    value: float
    stderr: float | None
    num_documents: int


@dataclass(frozen=True)
class Standing:
    """Where a plan, or a quantized form of one, stands against the base as it is."""

    plan: PlanRow
    average: Estimate | None  # None unless the plan was evaluated on every averaged task
    paired: PairedDifference | None  # None for the base, and where a task lacks common documents
    within_one_stderr: bool


def averaged_tasks(results: Results) -> list[TaskMetric]:
    """The base's tasks whose primary metric is better when higher, in order of evaluation."""
    if not results.plans:
        return []
    base = results.plans[0].name
    return [
        (row.task, row.metric)
        for row in results.evaluations
        if row.plan == base and row.primary and row.higher_is_better
    ]


def mean_over_tasks(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of T independent estimates, with standard error sqrt(sum se_t^2) / T.

    One unknown error makes the mean's error unknown. Raises ValueError without estimates.
    """
    if not estimates:
        raise ValueError("a mean over no tasks")
    value = math.fsum(estimate.value for estimate in estimates) / len(estimates)
    errors = [estimate.stderr for estimate in estimates if estimate.stderr is not None]
    if len(errors) < len(estimates):
        return Estimate(value, None)
    return Estimate(value, math.sqrt(math.fsum(error**2 for error in errors)) / len(estimates))


def paired_difference(plan: Mapping[int, float], base: Mapping[int, float]) -> PairedDifference | None:
    """The mean of plan - base over the documents (by doc_id) that both have; None without any.

    The standard error is sqrt(var(d) / n) with the unbiased variance, unknown for a single document.
    """
    shared = sorted(plan.keys() & base.keys())
    if not shared:
        return None
    differences = [plan[doc_id] - base[doc_id] for doc_id in shared]
    count = len(differences)
    mean = math.fsum(differences) / count
    if count == 1:
        return PairedDifference(mean, None, 1)
    variance = math.fsum((difference - mean) ** 2 for difference in differences) / (count - 1)
    return PairedDifference(mean, math.sqrt(variance / count), count)


def is_within(plan: Estimate, base: Estimate) -> bool:
    """Whether the plan's average is at most one standard error of the base's average below it; higher is no fault."""
    return base.stderr is not None and plan.value >= base.value - base.stderr


def standings(results: Results) -> list[Standing]:
    """One standing per plan, in the order of the plans."""
    tasks = averaged_tasks(results)
    averages = [_average(results, plan.name, tasks) for plan in results.plans]
    documents = documents_by_plan(results)
    rows = []
    for plan, average in zip(results.plans, averages, strict=True):
        base, base_average = results.plans[0], averages[0]
        paired = None if plan is base else paired_average(documents[plan.name], documents[base.name], tasks)
        within = average is not None and base_average is not None and is_within(average, base_average)
        rows.append(Standing(plan, average, paired, within))
    return rows


def documents_by_plan(results: Results) -> dict[str, Documents]:
    """The documents of every plan; empty for one that has none."""
    documents: dict[str, dict[TaskMetric, dict[int, float]]] = {plan.name: {} for plan in results.plans}
    for row in results.documents:
        documents[row.plan].setdefault((row.task, row.metric), {})[row.doc_id] = row.value
    return {**documents}


def paired_average(plan: Documents, other: Documents, tasks: Sequence[TaskMetric]) -> PairedDifference | None:
    """The mean over tasks of plan - other, paired by document; None where a task lacks common documents."""
    pairs = []
    for task in tasks:
        pair = paired_difference(plan.get(task, {}), other.get(task, {}))
        if pair is None:
            return None
        pairs.append(pair)
    if not pairs:
        return None
    mean = mean_over_tasks([Estimate(pair.value, pair.stderr) for pair in pairs])
    return PairedDifference(mean.value, mean.stderr, sum(pair.num_documents for pair in pairs))


def _average(results: Results, plan: str, tasks: Sequence[TaskMetric]) -> Estimate | None:
    estimates = {
        (row.task, row.metric): Estimate(row.value, row.stderr)
        for row in results.evaluations
        if row.plan == plan and row.primary
    }
    if not tasks or not all(task in estimates for task in tasks):
        return None
    return mean_over_tasks([estimates[task] for task in tasks])
