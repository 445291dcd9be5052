"""The data of a run's tasks, read in the driver: what cannot be read must not cost a night of scoring."""

from drop_ray.job import steps
from drop_ray.job.job import Job
from drop_ray.job.ledger import Ledger


def open_task_data(job: Job, ledger: Ledger) -> None:
    """Read the data of the tasks that the base has no results of. UserError for data that cannot be read."""
    known = steps.evaluation_steps(job, job.base_variant)
    found = ledger.look(known.values())
    # What is damaged is done again, of data that was read before.
    unread = [request for request in job.task_requests if found[known[request.name].path] is None]
    if unread:
        from drop_ray.evaluation.tasks.opening import open_tasks  # imports lm-eval

        open_tasks(unread, job.include_path)
