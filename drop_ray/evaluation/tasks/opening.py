"""Loads tasks with their data: once in the driver, before any work, and in the worker that evaluates them."""

from collections.abc import Iterable
from typing import Any

from drop_ray.errors import UserError
from drop_ray.evaluation.quiet import quiet
from drop_ray.evaluation.result import TaskRequest
from drop_ray.evaluation.tasks.catalog import Catalog
from drop_ray.text.faults import with_cause


def open_tasks(requests: Iterable[TaskRequest], include_path: str | None) -> None:
    """Read the data of all tasks. UserError for data that cannot be read, and fewer examples than shots."""
    catalog = Catalog(include_path)
    for request in requests:
        with quiet():
            for task in load_tasks(catalog, request.name)["tasks"].values():
                set_shots(task, request)


def load_tasks(catalog: Catalog, name: str) -> dict[str, Any]:
    """lm-eval's loaded tasks and groups. UserError says what is at the bottom of the libraries' errors.

    Readers of data, the hub, templates and the task's own code have errors of their own, without a common base.
    """
    try:
        return catalog.load(name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"evaluation.tasks: {name} cannot be loaded ({with_cause(error)}); see to its YAML and data files, or, for "
            "data of the hub, to the network and HF_TOKEN"
        ) from error


def set_shots(task: Any, request: TaskRequest) -> None:
    """Give a loaded task the number of examples that is asked for. UserError if it has fewer."""
    stated = task.get_config("num_fewshot")
    num_fewshot = (stated or 0) if request.num_fewshot is None else request.num_fewshot
    task.set_config("num_fewshot", num_fewshot)
    if num_fewshot and hasattr(task, "sampler") and len(task.sampler.fewshot_docs()) < num_fewshot:
        available = len(task.sampler.fewshot_docs())
        raise UserError(
            f"evaluation.tasks: {task.task_name}: num_fewshot is {num_fewshot}, but there are {available} examples"
        )
