"""What a user finds in a model's folder beside weights and configuration, and an export copies: tokenizer and licence.

An export is passed on. So it gets what is listed here and nothing else: no code, and no file from outside of the model.
"""

import fnmatch
from pathlib import Path

from drop_ray.errors import UserError
from drop_ray.text.path_names import inner_path, shown

COMPANION_PATTERNS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "generation_config.json",
    "LICENSE*",
    "LICENCE*",
    "*License*",  # as Baichuan's: Community License for Baichuan2 Model.pdf
    "*许可协议*",
    "NOTICE*",
    "USE_POLICY*",
    "README*",
)
# The Hugging Face cache keeps a snapshot's files as links to ../../blobs.
SNAPSHOTS, BLOBS = "snapshots", "blobs"


def is_companion(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in COMPANION_PATTERNS)


def companion_files(folder: Path) -> list[Path]:
    """The companions in a model's folder. UserError for one that is not a file of the model's own.

    A link may lead to another file of the folder or, in the Hugging Face cache, to one of the model's blobs. Weights
    may be linked from anywhere, since nothing but tensors is ever taken from them.
    """
    found = sorted(path for path in folder.iterdir() if is_companion(path.name) and not _is_folder(path))
    for path in found:
        _check_own(path, folder)
    return found


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
