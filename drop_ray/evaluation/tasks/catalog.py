"""Finds tasks by name, in the user's folder of YAML files, then among lm-eval's own, with all that they refer to."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from drop_ray.errors import UserError
from drop_ray.evaluation.lm_eval_private import import_function, state_config
from drop_ray.evaluation.tasks.builtin_tasks import builtin_names, folders_mentioning, index_folders
from drop_ray.evaluation.tasks.task_yaml import DataReference, FunctionReference, read_config
from drop_ray.text.faults import with_cause


@dataclass(frozen=True)
class FoundTask:
    """A task, tag or group, and everything that it needs."""

    name: str
    """The name that was asked for."""
    manager: Any
    """lm-eval's task manager, which knows everything that the name reaches."""
    configs: Mapping[str, Mapping[str, Any]]
    """Merged YAML of each task and group that it reaches, by name."""
    tags: Mapping[str, list[str]]
    """Tasks of each tag that it reaches, by name; a tag has no YAML."""

    def leaves(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Name and fields of every task proper, and of the group members whose fields a group states or overrides."""
        for name, config in self.configs.items():
            if "group" in config and "class" not in config:
                yield from _stated_members(config)
            else:
                yield name, config


class Catalog:
    """The tasks that can be requested: those of the folder `include_path`, then lm-eval's own.

    Raises UserError if `include_path` is not a folder.
    """

    def __init__(self, include_path: str | None) -> None:
        if include_path is not None and not Path(include_path).is_dir():
            raise UserError(f"evaluation.include_path: {include_path} is not a folder")
        for path in Path(include_path).glob("**/*.yaml") if include_path is not None else []:
            if not path.is_file():  # lm-eval would open a named pipe, and wait
                raise UserError(f"evaluation.include_path: {path} is not a file; remove it")
        self._include_path = include_path
        self._found: dict[str, FoundTask] = {}

    def find(self, name: str) -> FoundTask:
        """The task `name` with everything it refers to. UserError if any of it is unknown."""
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def load(self, name: str) -> dict[str, Any]:
        """lm-eval's loaded tasks and groups for `name`, with their data read, as `TaskManager.load` gives them."""
        found = self.find(name)
        for key, config in found.configs.items():
            state_config(found.manager.task_index[key], _runnable(config))
        loaded: dict[str, Any] = found.manager.load([name])
        return loaded

    def _search(self, name: str) -> FoundTask:
        """Index only those of lm-eval's folders that a name leads into, since indexing all takes over ten seconds."""
        found, missing = _collect(self._index([]), name)
        if not missing:
            return found
        names: set[str] = set()
        folders: list[Path] = []
        while (mentioning := folders_mentioning(names := names | {*missing, *found.tags})) != folders:
            folders = mentioning
            found, missing = _collect(self._index(folders), name)
        if missing:
            raise UserError(self._unknown(name, missing[0]))
        return found

    def _index(self, folders: list[Path]) -> Any:
        """A task manager of the user's tasks and some of lm-eval's folders. Of two equal names the user's counts."""
        try:
            manager = TaskManager(include_path=self._include_path, include_defaults=False)
        except Exception as error:  # whatever its reader of YAML says of a file that is none
            raise UserError(
                f"evaluation.include_path: the tasks of {self._include_path} cannot be listed ({with_cause(error)})"
                f"{_unreadable(self._include_path)}"
            ) from error
        for name, entry in index_folders(folders).items():
            manager.task_index.setdefault(name, entry)
        return manager

    def _unknown(self, name: str, missing: str) -> str:
        known = {*self._index([]).all_tasks, *builtin_names()}
        near = difflib.get_close_matches(missing, sorted(known), n=3)
        asked = f"'{name}'" if missing == name else f"'{name}' needs '{missing}', which"
        places = f"in {self._include_path} or among lm-eval's tasks" if self._include_path else "among lm-eval's tasks"
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        return f"evaluation.tasks: {asked} is not found {places}{hint}{_unreadable(self._include_path)}"


def _collect(manager: Any, name: str) -> tuple[FoundTask, list[str]]:
    """Everything reachable from `name`, and the names that lead nowhere."""
    configs: dict[str, Mapping[str, Any]] = {}
    tags: dict[str, list[str]] = {}
    missing: list[str] = []
    pending = [name]
    while pending:
        current = pending.pop()
        if current in configs or current in tags:
            continue
        entry = manager.task_index.get(current)
        if entry is None:
            missing.append(current)
        elif entry.yaml_path is None and entry.cfg is None:
            tags[current] = sorted(entry.tags)
            pending += tags[current]
        else:
            path = entry.yaml_path
            configs[current] = entry.cfg if path is None else read_config(path)
            pending += _members(configs[current], manager.task_index)
    return FoundTask(name, manager, configs, tags), missing


def _members(config: Mapping[str, Any], index: Mapping[str, Any]) -> Iterator[str]:
    """Names that a group refers to. What it defines in place refers to others only through members of its own."""
    members = config.get("task")
    for member in members if isinstance(members, list) else []:
        name = member if isinstance(member, str) else member.get("group", member.get("task"))
        if name in index or isinstance(member, str) or not _defined_in_place(member):
            yield name
        else:
            yield from _members(member, index)


def _defined_in_place(member: Mapping[str, Any]) -> bool:
    return isinstance(member.get("task"), list) or not {"dataset_path", "custom_dataset", "class"}.isdisjoint(member)


def _stated_members(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    members = config.get("task")
    for member in members if isinstance(members, list) else []:
        if isinstance(member, str):
            continue
        if isinstance(member.get("task"), list):
            yield from _stated_members(member)
        else:
            yield member.get("group", member.get("task")), member


def _runnable(value: Any) -> Any:
    """The YAML as lm-eval takes it: functions are imported, and data references are absolute paths."""
    if isinstance(value, Mapping):
        return {key: _runnable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_runnable(item) for item in value]
    if isinstance(value, FunctionReference):
        return import_function(value.name, value.folder)
    return value.path if isinstance(value, DataReference) else value


def _unreadable(include_path: str | None) -> str:
    """A line for each YAML file that cannot be parsed.

    lm-eval skips these in silence, and a missing task may be in one.
    """
    problems = []
    for path in sorted(Path(include_path).glob("**/*.yaml")) if include_path is not None else []:
        try:
            read_config(path)
        except UserError as error:
            problems.append(f"\n  {error}")
    return "".join(problems)
