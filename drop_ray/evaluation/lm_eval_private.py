"""The parts of lm-eval outside its public interface that drop_ray uses: its index of task files.

Its public `TaskManager` indexes all of its own tasks or none, and reads a task's YAML only by its path.
tests/evaluation/test_private_lm_eval.py checks every part, and names the version of lm-eval that changed one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lm_eval.tasks._index import Kind, TaskIndex
from lm_eval.tasks._yaml_loader import _import_func_in_yml


def index_folder(folder: Path) -> dict[str, Any]:
    """lm-eval's index entries of the YAML files below a folder, by the names of tasks, groups and tags.

    Expected of `TaskIndex.build(folders)`: entries with `kind`, `yaml_path`, `cfg` and `tags`, as a task manager's
    `task_index` has them; a tag's `tags` are the names of its tasks.
    """
    entries: dict[str, Any] = TaskIndex.build([folder])
    return entries


def is_tag(entry: Any) -> bool:
    return entry.kind is Kind.TAG


def state_config(entry: Any, config: Mapping[str, Any]) -> None:
    """Have the task manager of an index entry build its task or group from `config`, and not from its file.

    Expected: an entry without `yaml_path` is built from `cfg`.
    """
    entry.yaml_path, entry.cfg = None, config


def import_function(name: str, folder: Path) -> Callable[..., Any]:
    """What `!function` in a YAML file of `folder` means: `name` is `module.function`.

    Expected of `_import_func_in_yml(name, folder)`: a module beside the file goes before an importable one, and is
    imported once.
    """
    function: Callable[..., Any] = _import_func_in_yml(name, folder)
    return function
