"""What a user finds in a model's folder beside weights and configuration, and an export copies: tokenizer and licence.

An export is passed on. So it gets what is listed here and nothing else: no code, and no file from outside of the model.
"""

import fnmatch
import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drop_ray.errors import UserError
from drop_ray.models.files.hub_blobs import BLOBS, SNAPSHOTS
from drop_ray.reading.json_text import read_json
from drop_ray.text.path_names import inner_path, shown

# What decides how text becomes tokens, and so belongs to a model's identity.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
DATA_FILES = (
    *TOKENIZER_FILES,
    *(f"tokenizer.model.v{version}" for version in (1, 2, 3)),  # as Mistral's, for mistral-common
    "chat_template.json",
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),  # how images are read
    "generation_config.json",
)
DOCUMENTS = (
    "LICENSE*",
    "LICENCE*",
    "*License*",  # as Baichuan's: Community License for Baichuan2 Model.pdf
    "*许可协议*",
    "NOTICE*",
    "USE_POLICY*",
    "README*",
)
# A number is a version: LICENSE-2.0
DOCUMENT_SUFFIX = re.compile(r"(\.(md|pdf|rst|txt|\d+))?", re.IGNORECASE)
# What `snapshot_download` is asked for; not all of it is copied.
COMPANION_PATTERNS = (*DATA_FILES, *DOCUMENTS)
# Fields of JSON files that name code beside the weights, or of another repository, for `trust_remote_code`.
CODE_FIELDS = ("auto_map", "custom_pipelines")

logger = logging.getLogger(__name__)


def is_companion(name: str) -> bool:
    """Whether a file's name says that it is data of the tokenizer, or a document."""
    is_document = any(fnmatch.fnmatchcase(name, pattern) for pattern in DOCUMENTS)
    return name in DATA_FILES or (is_document and DOCUMENT_SUFFIX.fullmatch(Path(name).suffix) is not None)


def companion_files(folder: Path) -> list[Path]:
    """The companions in a model's folder. UserError for one that is not a file of the model's own, or is broken.

    A link may lead to another file of the folder or, in the Hugging Face cache, to one of the model's blobs. Weights
    may be linked from anywhere, since nothing but tensors is ever taken from them.
    """
    found = sorted(path for path in folder.iterdir() if is_companion(path.name) and not _is_folder(path))
    for path in found:
        _check_own(path, folder)
        _read_object(path)
    return found


def copy_companion(path: Path, target: Path) -> None:
    """Copy a companion into the folder `target`: byte for byte, or without the fields that name code."""
    values = _read_object(path)
    kept = without_code(values)
    if kept == values:
        shutil.copyfile(path, target / path.name)
        return
    logger.warning("%s names code (%s), which is left out", path, " or ".join(CODE_FIELDS))
    (target / path.name).write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def without_code(value: Any) -> Any:
    """JSON without CODE_FIELDS, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_code(item) for key, item in value.items() if key not in CODE_FIELDS}
    return [without_code(item) for item in value] if isinstance(value, list) else value


def _read_object(path: Path) -> Any:
    """Its JSON, if it can name code. None for other files, and for those whose keys are tokens."""
    if path.suffix != ".json" or path.name in ("tokenizer.json", "vocab.json", "added_tokens.json"):
        return None
    what = f"model.path: {path}"
    return read_json(path, what)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _check_own(path: Path, folder: Path) -> None:
    try:
        inner_path(path.name)
    except ValueError as error:
        raise UserError(f"model.path: {folder}: a file is called {shown(path.name)}; rename or remove it") from error
    target = path.resolve()
    if not any(target.is_relative_to(place) for place in _own_places(folder.resolve())):
        raise UserError(
            f"model.path: {path} is a link out of the model's folder, to {target}, and an export would pass that file "
            "on; put a copy of the file in the link's place if that is meant, or remove the link"
        )
    if not target.is_file():
        raise UserError(f"model.path: {path} is not a file; remove it, or download the model again")


def _own_places(folder: Path) -> list[Path]:
    """The folder, and the blobs that the snapshots of a model in the Hugging Face cache share."""
    return [folder, *(parent.parent / BLOBS for parent in folder.parents if parent.name == SNAPSHOTS)]
