"""What a task is, as JSON: its merged YAML with code and data replaced by hashes, and no path of any machine."""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drop_ray.errors import UserError
from drop_ray.evaluation.tasks.task_yaml import DataReference, FunctionReference

# Suffixes of files that a `custom_dataset` function may read beside its YAML.
_DATA_SUFFIXES = frozenset({".arrow", ".csv", ".json", ".jsonl", ".parquet", ".tsv", ".txt"})


def config_identity(task: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The merged YAML of one task or group as plain JSON values.

    A function becomes its name and the sha256 of its whole Python module. Local data becomes the sha256 of each file. A
    hub dataset stays as it is named (`dataset_path`, `dataset_name`, a `revision` in `dataset_kwargs`). With a
    `custom_dataset` function the data files beside its Python module count as well, since it may read them. Raises
    UserError, naming the task, for a missing data file or Python module.
    """
    identity = {str(key): _plain(task, value) for key, value in config.items()}
    loader = config.get("custom_dataset")
    if isinstance(loader, FunctionReference):
        beside = sorted(path for path in loader.folder.iterdir() if path.suffix in _DATA_SUFFIXES)
        identity["files_beside"] = {path.name: _sha256(path) for path in beside}
    return identity


def _plain(task: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(task, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(task, item) for item in value]
    if isinstance(value, DataReference):
        files = value.files()
        if not files:
            raise UserError(f"evaluation.tasks: {task}: data file not found: {value.path}")
        return {"sha256": [_sha256(path) for path in files]}
    if isinstance(value, FunctionReference):
        return {"function": value.name, "sha256": _sha256(_module_file(task, value))}
    if isinstance(value, str) and value.startswith("/") and Path(value).is_file():
        return {"sha256": [_sha256(Path(value))]}
    return value


def _module_file(task: str, function: FunctionReference) -> Path:
    """The function's file: beside the YAML, else among the importable Python modules, which is lm-eval's order."""
    module, _, _ = function.name.rpartition(".")
    beside = function.folder / f"{module.replace('.', '/')}.py"
    if beside.is_file():
        return beside
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UserError(f"evaluation.tasks: {task}: !function {function.name}: no {beside} and no such module")
    return Path(spec.origin)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
