"""Python code that tasks name with `!function`: said before it runs, and refused where it comes from elsewhere.

Code of lm-eval, of the demo and of the working directory is the user's own to run. Any other needs leave by
`evaluation.allow_task_code`.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from drop_ray.config.section import DEMO_FOLDER
from drop_ray.errors import UserError
from drop_ray.evaluation.tasks.catalog import FoundTask
from drop_ray.evaluation.tasks.task_yaml import OF_LM_EVAL, FunctionReference

logger = logging.getLogger(__name__)


def check_task_code(found: FoundTask, allow: bool) -> None:
    """Log the files whose code a task runs, except lm-eval's and the demo's. UserError for foreign code unless `allow`.

    Nothing is imported, and no module is looked for beyond the folder of the YAML file.
    """
    files: set[str] = set()
    for task, config in sorted(found.configs.items()):
        for field, function in _functions(config, ""):
            file = _file(function)
            if not allow and not (_is_own(function.folder) and _is_own(file)):
                raise UserError(
                    f"evaluation.include_path: {field} of task {task} runs code, !function {function.name} of {file}, "
                    "which is not below the working directory; read it, then set evaluation.allow_task_code: true, or "
                    "copy the tasks into the working directory"
                )
            if not file.is_relative_to(OF_LM_EVAL) and not file.is_relative_to(DEMO_FOLDER.resolve()):
                files.add(str(file) if file.is_file() else function.name)  # of an installed package
    if files:
        logger.info("evaluation of %s runs code of %s", found.name, ", ".join(sorted(files)))


def _functions(value: Any, field: str) -> Iterator[tuple[str, FunctionReference]]:
    """Every function at any depth of a task's YAML, with the field that names it."""
    if isinstance(value, FunctionReference):
        yield field, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _functions(inner, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _functions(inner, f"{field}[{position}]")


def _file(function: FunctionReference) -> Path:
    """The module beside the YAML file. One that is not there is a module of an installed package."""
    module = function.name.rpartition(".")[0]
    return (function.folder / f"{module.replace('.', '/')}.py").resolve()


def _is_own(path: Path) -> bool:
    return any(path.resolve().is_relative_to(place) for place in (OF_LM_EVAL, DEMO_FOLDER.resolve(), Path.cwd()))
