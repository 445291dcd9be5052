"""What dropping loses, and what comes back by refitting or goes by quantizing: plan by plan.

KL is of the panels' text. The share that came back is 1 - KL / KL of the plan as it was dropped, both on the same
samples; its interval is that of a ratio of paired means (delta method) by Student's t. Points are of the mean over
tasks, paired by document.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from drop_ray.evaluation.losses import Evidence, Loss, differences, evidence, mean_loss
from drop_ray.report.divergence import kl_by_sample
from drop_ray.report.results import Results
from drop_ray.report.rows import VariantRow
from drop_ray.report.statistics import Documents, Task, averaged_tasks, documents_by_task

SIDE = 0.975
"""Confidence of each end of a two-sided 95 % interval."""
AS_DROPPED = "as dropped"


@dataclass(frozen=True)
class RecoveryRow:
    """What one variant of a plan lost against the base, and against the plan as it was dropped."""

    plan: str
    """Name of the plan's variant without further changes; of a quantized base the base."""
    variant: str
    """Name of the variant."""
    changes: str
    """What was done after dropping: `refit`, `refit, awq`; `as dropped` if nothing was."""
    kl: float | None
    """Mean KL to the base per token, in nats, on the panels' text."""
    kl_low: float | None
    """Lower end of its 95 % interval, over samples."""
    kl_high: float | None
    """Its upper end."""
    came_back: float | None
    """Share of the plan's KL that came back; below 0 more was lost. None of the plan itself."""
    came_back_low: float | None
    """Lower end of its 95 % interval."""
    came_back_high: float | None
    """Its upper end."""
    lost: float | None
    """Mean over tasks of the base less the variant, paired by document."""
    lost_low: float | None
    """Lower end of its 95 % interval."""
    lost_high: float | None
    """Its upper end."""
    gained: float | None
    """Mean over tasks of the variant less the plan as it was dropped, paired by document."""
    gained_low: float | None
    """Lower end of its 95 % interval."""
    gained_high: float | None
    """Its upper end."""


def recovery(results: Results) -> list[RecoveryRow]:
    """By plan, the plan as it was dropped first; only plans of which a changed variant is there."""
    roots = {row.name: root_of(results, row) for row in results.variants}
    changed = {roots[row.name] for row in results.variants if roots[row.name] != row.name}
    samples, documents, tasks = kl_by_sample(results), documents_by_task(results), averaged_tasks(results)
    of_plans = [(root, row) for root in dict.fromkeys(roots.values()) for row in results.variants]
    return [
        _row(results, root, row, samples, documents, tasks)
        for root, row in of_plans
        if root in changed and roots[row.name] == root
    ]


def root_of(results: Results, row: VariantRow) -> str:
    """The variant that a refitted or quantized one was made of in the end: the plan as it was dropped, or the base."""
    refitted = {refit.variant: refit.of for refit in results.refits}
    name = row.quantization.of if row.quantization else row.name
    return refitted.get(name, name)


def share_left(after: Mapping[int, float], before: Mapping[int, float]) -> Loss | None:
    """Ratio of the means of the samples that both have, with its 95 % interval; None of fewer than two, or over 0."""
    common = sorted(after.keys() & before.keys())
    of_before = math.fsum(before[sample] for sample in common)
    if len(common) < 2 or of_before <= 0:
        return None
    ratio = math.fsum(after[sample] for sample in common) / of_before
    left = differences([after[sample] - ratio * before[sample] for sample in common])
    assert left is not None
    half = float(stdtrit(len(common) - 1, SIDE)) * math.sqrt(left.variance / len(common)) / (of_before / len(common))
    return Loss(ratio, ratio - half, ratio + half)


def _row(
    results: Results,
    root: str,
    row: VariantRow,
    samples: Mapping[str, Mapping[int, float]],
    documents: Documents,
    tasks: Sequence[Task],
) -> RecoveryRow:
    own, of_root, base = samples.get(row.name, {}), samples.get(root, {}), results.variants[0].name
    known = differences([*own.values()])
    kl = known.loss(SIDE) if known else None
    left = None if row.name == root else share_left(own, of_root)
    lost = None if row.name == base else _mean(documents, tasks, base, row.name)
    gained = None if row.name == root else _mean(documents, tasks, row.name, root)
    back = Loss(1 - left.value, 1 - left.high, 1 - left.low) if left else None
    changes = ", ".join(row.changes) or AS_DROPPED
    return RecoveryRow(root, row.name, changes, *_three(kl), *_three(back), *_three(lost), *_three(gained))


def _mean(documents: Documents, tasks: Sequence[Task], one: str, other: str) -> Loss | None:
    """Mean over tasks of one less the other; None where a task has no documents in common."""
    found: list[Evidence] = []
    for task in tasks:
        pair = evidence(*(documents.get((side, task.task, task.metric), {}) for side in (one, other)))
        if pair is None:
            return None
        found.append(pair)
    return mean_loss(found, SIDE) if found else None


def _three(loss: Loss | None) -> tuple[float | None, float | None, float | None]:
    return (loss.value, loss.low, loss.high) if loss else (None, None, None)
