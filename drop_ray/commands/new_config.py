"""A config file that does not exist yet: its name, whether it may be written, and writing it."""

import re
from pathlib import Path

from drop_ray.errors import UserError
from drop_ray.text.path_names import file_name, shown, tried


def config_of(model: str) -> Path:
    """The file for a run on a model, after the last part of its path; for `demo:model` after both parts."""
    last = model.rstrip("/").rpartition("/")[2]
    return Path((re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._") or "run") + ".yaml")


def check_new_config(path: Path) -> None:
    """UserError if a file is there already, its folder is not, or no run could be called after it."""
    try:
        file_name(path.stem)
    except ValueError as error:
        raise UserError(f"--output: the run is called {shown(path.stem)}, after the file: {error}") from error
    if path.exists():
        raise UserError(f"--output: {path} exists; give another name, or remove it")
    if not path.parent.is_dir():
        raise UserError(f"--output: {tried(path.parent)} is not a folder")


def write_new_config(path: Path, text: str) -> None:
    """Write a file that is not there. UserError as of `check_new_config`."""
    check_new_config(path)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
