"""Checks the requested tasks before any model is loaded, and says what identifies each of them.

Reads YAML files and hashes code and data, but downloads nothing and loads no dataset. Its cost is importing lm-eval
(about a second) and, only if a name is not in `include_path`, indexing lm-eval's own tasks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drop_ray.errors import UserError
from drop_ray.evaluation.result import TaskRequest
from drop_ray.evaluation.tasks.catalog import Catalog, FoundTask
from drop_ray.evaluation.tasks.task_code import check_task_code
from drop_ray.evaluation.tasks.task_identity import config_identity
from drop_ray.evaluation.tasks.task_yaml import OF_LM_EVAL


@dataclass(frozen=True)
class ResolvedTask:
    """A request that can be run, and its identity, which is equal on every machine.

    The identity says neither which lm-eval nor which model. Hub datasets are identified by name and revision only.
    """

    request: TaskRequest
    """The request."""
    identity: dict[str, Any]
    """The request, and by name every tag, group and task that it reaches (`task_identity`), as plain JSON values."""
    file: str | None = None
    """The YAML file of a task or group of the user; None for a tag, and for lm-eval's own."""


def resolve_tasks(
    requests: Iterable[TaskRequest], include_path: str | None, *, allow_code: bool = False
) -> dict[str, ResolvedTask]:
    """The requests by name, checked, in their order; `allow_code` takes Python code of tasks from elsewhere.

    Raises UserError for an unknown task (with the nearest names), one requested twice, missing data or code, code from
    elsewhere, few-shot examples where the task cannot take any, and tasks that run generated code or need images or
    audio.
    """
    catalog = Catalog(include_path)
    resolved: dict[str, ResolvedTask] = {}
    for request in requests:
        if request.name in resolved:
            raise UserError(f"evaluation.tasks: {request.name} is listed twice")
        found = catalog.find(request.name)
        check_request(request, found)
        check_task_code(found, allow_code)
        resolved[request.name] = ResolvedTask(request, _identity(request, found), _file(found))
    return resolved


def check_request(request: TaskRequest, found: FoundTask) -> None:
    """UserError if a task that `request` reaches cannot be run as asked."""
    for name, config in found.leaves():
        field = f"evaluation.tasks: {request.name}" + ("" if name == request.name else f": {name}")
        if config.get("unsafe_code"):
            raise UserError(f"{field} executes code that the model writes, which is not supported")
        if config.get("doc_to_image") or config.get("doc_to_audio"):
            raise UserError(f"{field} needs images or audio; only text is supported")
        if not request.num_fewshot:
            continue
        if config.get("num_fewshot") == 0:
            raise UserError(f"{field} fixes num_fewshot: 0; omit num_fewshot for it")
        if config.get("output_type") == "loglikelihood_rolling":
            raise UserError(f"{field} scores whole texts without a prompt; omit num_fewshot for it")


def _file(found: FoundTask) -> str | None:
    path = found.manager.task_index[found.name].yaml_path
    return None if path is None or Path(path).resolve().is_relative_to(OF_LM_EVAL) else str(path)


def _identity(request: TaskRequest, found: FoundTask) -> dict[str, Any]:
    return {
        "name": request.name,
        "num_fewshot": request.num_fewshot,
        "limit": request.limit,
        "configs": {name: config_identity(name, config) for name, config in sorted(found.configs.items())},
        "tags": dict(sorted(found.tags.items())),
    }
