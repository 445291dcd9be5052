"""Which files of a model's folder hold its weights: a single file, or the files that an index names."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drop_ray.errors import UserError
from drop_ray.models.files.model_folder import ModelFolder
from drop_ray.models.files.safetensors_writer import INDEX_FILE, SINGLE_FILE
from drop_ray.reading.json_text import read_json_object
from drop_ray.text.path_names import inner_path, shown


@dataclass(frozen=True)
class WeightFormat:
    """The file names that transformers has for weights in one format."""

    single: str
    """Name of the file if there is one only."""
    index: str
    """Name of the index if there are several."""


# In order of preference: the first format that a model has is read.
FORMATS = (
    WeightFormat(SINGLE_FILE, INDEX_FILE),
    WeightFormat("pytorch_model.bin", "pytorch_model.bin.index.json"),
)


def find_weights(folder: ModelFolder) -> dict[str, Collection[str]]:
    """The weight files, each with the tensors that the index assigns to it. UserError names what is missing."""
    names = set(folder.names)
    for kind in FORMATS:
        if kind.index in names:
            files = read_index(folder.folder / kind.index, f"{folder.location}/{kind.index}")
            missing = sorted(files.keys() - names)
            if missing:
                raise UserError(
                    f"model.path: {folder.location}/{kind.index} names {missing[0]}, which is not there; "
                    "download it again"
                )
            return files
        if kind.single in names:
            return {kind.single: ()}
    found = sorted(name for name in names if name.endswith((".bin", ".safetensors", ".pt", ".pth"))) or sorted(names)
    raise UserError(
        f"model.path: {folder.location} has no weights ({' or '.join(kind.single for kind in FORMATS)}, or an index of "
        f"either); it holds {', '.join(found)}"
    )


def read_index(path: Path, location: str) -> dict[str, Collection[str]]:
    """The files that an index names, each with its tensors."""
    what = f"model.path: {location}"
    weight_map: Any = read_json_object(path, what).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise UserError(f"model.path: {location}: weight_map does not map tensors to files; download it again")
    files: dict[str, list[str]] = {}
    for tensor, file in weight_map.items():
        _check_own(file, location)
        files.setdefault(file, []).append(tensor)
    return dict(files)


def _check_own(file: str, location: str) -> None:
    """An index names files beside it. One that leads elsewhere is not what a model's author has uploaded."""
    try:
        is_own = "/" not in inner_path(file)
    except ValueError:
        is_own = False
    if not is_own:
        raise UserError(
            f"model.path: {location}: weight_map names {shown(file)}, which is not a file beside it; download it again"
        )
