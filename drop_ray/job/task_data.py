"""The data of a run's tasks, read in the driver: what cannot be read must not cost a night of scoring."""

from drop_ray.errors import CorruptArtifactError
from drop_ray.job import steps
from drop_ray.job.job import Job
from drop_ray.store import Step


def open_task_data(job: Job) -> None:
    """Read the data of the tasks that the base has no results of. UserError for data that cannot be read."""
    known = steps.evaluation_steps(job, job.base_variant)
    unread = [request for request in job.task_requests if not _is_done(job, known[request.name])]
    if unread:
        from drop_ray.evaluation.opening import open_tasks  # imports lm-eval

        open_tasks(unread, job.include_path)


def _is_done(job: Job, step: Step) -> bool:
    """Whether there are results, damaged ones too, which the stage finds and does again."""
    try:
        return job.store.find(step) is not None
    except CorruptArtifactError:
        return True
