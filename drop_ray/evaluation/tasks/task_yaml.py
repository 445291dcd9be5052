"""Reads a task's YAML as lm-eval does, but keeps the references to functions and local data files as references.

lm-eval resolves `!function` by importing code, and leaves relative data files to the working directory. Here both stay
references into the folder of the YAML file that states them. So a task can be identified without running anything, and
runs from any working directory.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lm_eval.tasks

from drop_ray.errors import UserError
from drop_ray.reading.files import SETTINGS_LIMIT, read_text
from drop_ray.reading.yaml_text import parse_yaml
from drop_ray.text.path_names import shown

OF_LM_EVAL = Path(lm_eval.tasks.__file__).resolve().parent
DEEPEST = 20

# Builders of `datasets` that read files. With any other `dataset_path`, data files lie in that hub repository.
_FILE_BUILDERS = frozenset({"arrow", "csv", "json", "parquet", "text", "xml"})


@dataclass(frozen=True)
class FunctionReference:
    """`!function module.name` in a YAML file."""

    folder: Path
    """Folder of the YAML file."""
    name: str
    """Dotted name, as the YAML states it."""


@dataclass(frozen=True)
class DataReference:
    """Local data that a YAML file names."""

    folder: Path
    """Folder that a relative pattern starts from."""
    pattern: str
    """Path of a file or folder, or a pattern with wildcards."""

    @property
    def path(self) -> str:
        """The absolute path, still with wildcards."""
        return str(self.folder / Path(self.pattern).expanduser())

    def files(self) -> list[Path]:
        """The files meant, in path order, or none if nothing is there. A folder means every file below it."""
        path = Path(self.path)
        found = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        below = [child for path in found if path.is_dir() for child in path.rglob("*")]
        return sorted(path for path in {*found, *below} if path.is_file())


def read_config(path: Path) -> dict[str, Any]:
    """The YAML of a task or group with its `include` chain merged, functions and local data as references.

    Raises UserError for a file that is not valid YAML, is not a mapping, includes itself, or lists what is no task.
    """
    config = _merged(path.resolve(), ())
    _check_members(config, path)
    return _local_data(config)


def _merged(path: Path, including: tuple[Path, ...]) -> dict[str, Any]:
    what = f"evaluation.tasks: {path}"
    if path in including:
        raise UserError(f"{what} includes itself")
    text = read_text(path, what, SETTINGS_LIMIT)
    # Some of lm-eval's own files give a key twice.
    tags = {"!function": partial(FunctionReference, path.parent)}
    config = parse_yaml(text, what, tags, last_counts=path.is_relative_to(OF_LM_EVAL))
    if not isinstance(config, dict):
        raise UserError(f"{what} must hold a mapping of task fields")
    includes = config.pop("include", [])
    merged: dict[str, Any] = {}
    for name in includes if isinstance(includes, list) else [includes]:
        if not isinstance(name, str) or not name.isprintable():
            raise UserError(f"{what}: include must name YAML files, not {shown(name)}")
        if len(including) >= DEEPEST:
            raise UserError(f"{what}: files include each other more than {DEEPEST} deep")
        base = _merged((path.parent / name).resolve(), (*including, path))
        base.pop("task_list", None)  # describes the included file only, as in lm-eval
        merged.update(base)
    return {**merged, **_marked(config, path.parent)}


def _check_members(config: dict[str, Any], path: Path) -> None:
    members = config.get("task")
    for member in members if isinstance(members, list) else []:
        if isinstance(member, dict) and isinstance(member.get("group", member.get("task")), str | list):
            _check_members(member, path)
        elif not isinstance(member, str):
            raise UserError(f"evaluation.tasks: {path}: a group lists tasks by name, or with fields, `task` among them")


def _marked(value: Any, folder: Path) -> Any:
    """Turn data files, data folders and a path-like `dataset_path`, at any depth, into references into `folder`."""
    if isinstance(value, list):
        return [_marked(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    marked = {key: _marked(item, folder) for key, item in value.items()}
    if isinstance(value.get("dataset_kwargs"), dict):
        for key in {"data_files", "data_dir"} & value["dataset_kwargs"].keys():
            marked["dataset_kwargs"][key] = _references(value["dataset_kwargs"][key], folder)
    if str(value.get("dataset_path")).startswith(("/", "./", "../", "~")):
        marked["dataset_path"] = DataReference(folder, value["dataset_path"])
    return marked


def _references(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_references(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _references(item, folder) for key, item in value.items()}
    return DataReference(folder, value) if isinstance(value, str) and "://" not in value else value


def _local_data(config: dict[str, Any]) -> dict[str, Any]:
    """Keep the data references that mean local files.

    The others, which are paths in a hub repository, become strings again.

    Data files are local if `dataset_path` names a builder that reads files. A member that a group overrides and a
    `custom_dataset` function have no `dataset_path`: their data files are local if they exist.
    """
    settled = dict(config)
    if isinstance(config.get("task"), list):
        settled["task"] = [_local_data(item) if isinstance(item, dict) else item for item in config["task"]]
    if isinstance(config.get("dataset_kwargs"), dict):
        arguments = config["dataset_kwargs"]
        settled["dataset_kwargs"] = _settled(arguments, config.get("dataset_path"), arguments.get("data_dir"))
    return settled


def _settled(value: Any, builder: Any, data_dir: Any) -> Any:
    if isinstance(value, list):
        return [_settled(item, builder, data_dir) for item in value]
    if isinstance(value, dict):
        return {key: _settled(item, builder, data_dir) for key, item in value.items()}
    if not isinstance(value, DataReference):
        return value
    inside = isinstance(data_dir, DataReference) and value is not data_dir  # `datasets` looks inside data_dir
    reference = DataReference(Path(data_dir.path), value.pattern) if inside else value
    local = builder in _FILE_BUILDERS or (builder is None and reference.files())
    return reference if local else value.pattern
