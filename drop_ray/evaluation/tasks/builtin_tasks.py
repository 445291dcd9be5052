"""lm-eval's own tasks, searched as text, because parsing all of its 14000 YAML files takes over ten seconds."""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import lm_eval.tasks

from drop_ray.evaluation.lm_eval_private import index_folder, is_tag

_ROOT = Path(lm_eval.tasks.__file__).parent
_NAMING = re.compile(rb"^(?:task|group): *['\"]?([\w.:-]+)", re.MULTILINE)
_INCLUDING = re.compile(rb"^include: *['\"]?([^'\"\s]+)", re.MULTILINE)


def folders_mentioning(names: Collection[str]) -> list[Path]:
    """The top-level task folders in which any of `names` appears as a word.

    A task's folder contains the task's name. It also contains its tags, unless the task includes them from another
    folder. Files that are included from elsewhere are therefore read too.
    """
    words = [name.encode() for name in names]
    word = re.compile(rb"(?<![\w.-])(?:" + b"|".join(map(re.escape, words)) + rb")(?![\w.-])")

    def mentions(text: bytes) -> bool:
        # Plain search first: a pattern of many alternatives is slow, and most files have none of them.
        return any(name in text for name in words) and word.search(text) is not None

    return [folder for folder in _folders() if any(mentions(text) for text in _texts(folder))] if names else []


def index_folders(folders: Iterable[Path]) -> dict[str, Any]:
    """lm-eval's index entries of these folders, as if they were one.

    Of two tasks with one name the first counts. A tag has its tasks of all folders, where lm-eval itself would let each
    folder replace the ones before.
    """
    index: dict[str, Any] = {}
    for folder in folders:
        for name, entry in index_folder(folder).items():
            present = index.setdefault(name, entry)
            if is_tag(present) and is_tag(entry):
                present.tags.update(entry.tags)
    return index


def builtin_names() -> list[str]:
    """Names of the tasks and groups that a YAML file states on a line of its own, to suggest the nearest from."""
    return sorted({name.decode() for folder in _folders() for text in _texts(folder) for name in _NAMING.findall(text)})


def _folders() -> list[Path]:
    return sorted(path for path in _ROOT.iterdir() if path.is_dir())


def _texts(folder: Path) -> Iterator[bytes]:
    """YAML files below a folder, files without a suffix (included by others), and what they include from elsewhere."""
    for path in folder.rglob("*"):
        if path.suffix in (".yaml", "") and path.is_file():
            yield from _text_with_includes(path, folder)


def _text_with_includes(path: Path, folder: Path) -> Iterator[bytes]:
    text = path.read_bytes()
    yield text
    if folder in path.parents and b"include: .." not in text:
        return
    for name in _INCLUDING.findall(text):
        included = (path.parent / name.decode()).resolve()
        if folder not in included.parents:
            yield from _text_with_includes(included, folder)
