"""What is known of the loss of each variant, for the rule `accept`: of tasks paired by document, or of its panel."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drop_ray.config.accept import AVERAGE, KL
from drop_ray.evaluation.losses import Evidence, Settled, differences, evidence
from drop_ray.report.divergence import kl_by_sample
from drop_ray.report.judgement import TargetRow
from drop_ray.report.results import Results
from drop_ray.report.rows import EvaluationRow, VariantRow
from drop_ray.report.statistics import Documents, Task, averaged_tasks, documents_by_task, primary_rows


@dataclass(frozen=True)
class Known:
    """What the rule is applied to, of one variant."""

    losses: Sequence[Evidence]
    """Of each task of the rule, or of the panel; empty where one of them has none."""
    tasks: Mapping[str, Evidence] = field(default_factory=dict)
    """Of each averaged task by itself, where the rule is about tasks."""
    falls: tuple[str, ...] = ()
    """Tasks whose own lower bound is above the allowed loss."""
    reason: str = ""
    """Why there is none."""


def known_losses(results: Results) -> dict[str, Known]:
    """Of each candidate, by name, in their order."""
    if results.accept.metric == KL:
        samples = kl_by_sample(results)
        found = {row.name: differences([*samples.get(row.name, {}).values()]) for row in candidates(results)}
        return {name: Known([one]) if one else Known((), reason="it has no panel") for name, one in found.items()}
    known = _Tables(
        documents_by_task(results),
        primary_rows(results),
        {(row.variant, row.task, row.metric): row for row in results.targets},
    )
    tasks, ruled = averaged_tasks(results), ruled_tasks(results)
    return {row.name: _of_tasks(results, row.name, tasks, ruled, known) for row in candidates(results)}


def candidates(results: Results) -> list[VariantRow]:
    """The variants that differ from the base, whatever made them."""
    base, *others = results.variants or (None,)
    return [row for row in others if base is None or row.quantization or _made(row) != _made(base)]


def ruled_tasks(results: Results) -> list[Task]:
    """The tasks that the rule is about: all that are averaged, or one; none where it is about KL."""
    return [task for task in averaged_tasks(results) if results.accept.metric in (AVERAGE, task.task)]


def _made(row: VariantRow) -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
    return row.drop_attn, row.drop_mlp, row.changes


@dataclass(frozen=True)
class _Tables:
    """What is known of variants, by (variant, task, metric)."""

    documents: Documents
    """Values by document."""
    evaluations: Mapping[tuple[str, str, str], EvaluationRow]
    """Values over all documents."""
    targets: Mapping[tuple[str, str, str], TargetRow]
    """How tasks with a target ended."""


def _of_tasks(results: Results, name: str, tasks: Sequence[Task], ruled: Sequence[Task], tables: _Tables) -> Known:
    """tasks: those that are averaged; ruled: those of the rule."""
    rule, base = results.accept, results.variants[0].name
    found: dict[str, Evidence] = {}
    reasons: dict[str, str] = {}
    for task in tasks:
        place = (name, task.task, task.metric)
        own, target = tables.evaluations.get(place), tables.targets.get(place)
        both = [tables.documents.get((side, task.task, task.metric), {}) for side in (base, name)]
        if own is None:
            reasons[task.task] = f"it was not evaluated on {task.task}"
        elif not math.isfinite(own.value):
            reasons[task.task] = f"there is no number of {task.task}"
        elif target is not None and _is_open(target) and target.confidence < rule.confidence:
            reasons[task.task] = f"{task.task} has a target of less confidence ({target.confidence:g})"
        elif known := _settled(target) or evidence(*both):
            found[task.task] = known
        else:
            reasons[task.task] = f"there are no documents of {task.task} that can be paired with the base's"
    falls = tuple(task for task, one in found.items() if one.loss(rule.confidence).low > rule.allowed)
    needed = ruled if rule.each_task is None else [*ruled, *tasks]
    if lacking := [reasons[task.task] for task in needed if task.task in reasons]:
        return Known((), found, falls, lacking[0])
    return Known([found[task.task] for task in ruled], found, falls)


def _is_open(target: TargetRow) -> bool:
    """Whether the task ended before its last document, so that its interval is the one to look at."""
    return target.low is not None and target.documents < target.population


def _settled(target: TargetRow | None) -> Settled | None:
    """The interval of a task that ended at its target: the usual one is not made for so many looks."""
    if target is None or not _is_open(target):
        return None
    assert target.difference is not None
    assert target.low is not None
    assert target.high is not None
    return Settled(-target.difference, -target.high, -target.low, target.documents)
