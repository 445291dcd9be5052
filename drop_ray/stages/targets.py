"""Tasks with a target (`evaluation.limit: {within: ...}`): a variant's unit needs the base's result of the task."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from drop_ray.evaluation.targets.base_answers import BaseAnswers
from drop_ray.job import steps
from drop_ray.job.artifacts import DOCUMENTS, METRICS
from drop_ray.job.job import Job
from drop_ray.job.worker import Worker
from drop_ray.planning.variants import Variant
from drop_ray.store import Commit, Step
from drop_ray.store.tables import read_table

if TYPE_CHECKING:
    from drop_ray.stages.evaluate import EvaluationUnit


def targeted_base(job: Job, variant: Variant, name: str) -> Step | None:
    """The base's step of a task that has a target on that variant; None for other tasks, for texts and for the base."""
    if not any(request.name == name for request in job.task_requests) or not steps.target_of(job, variant, name):
        return None
    return steps.task_step(job, job.base_variant, name)


def in_turns(units: Sequence["EvaluationUnit"]) -> Iterator[list["EvaluationUnit"]]:
    """The base's units that others are compared with, then all others, so that these can be sent with their results."""
    needed = {unit.base_step.path for unit in units if unit.base_step}
    yield from filter(
        None,
        (
            [unit for unit in units if unit.step.path in needed],
            [unit for unit in units if unit.step.path not in needed],
        ),
    )


def base_answers(worker: Worker, commit: Commit | None) -> BaseAnswers | None:
    """What the base's evaluation says.

    CorruptArtifactError if its bytes are not those that were committed; the next start makes it anew.
    """
    if commit is None:
        return None
    with worker.store.discarded_if_corrupt(commit):
        return BaseAnswers.of(worker.store.read_bytes(commit, METRICS), read_table(worker.store, commit, DOCUMENTS))
