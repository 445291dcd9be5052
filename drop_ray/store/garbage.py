"""Finds files in a store that nobody needs any more: files of writers that died, and artifacts that no run refers to.

Whatever was written since `before` is left alone, because its writer may be about to record it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from drop_ray.errors import CorruptArtifactError
from drop_ray.store.filesystem import READS_AT_ONCE, Stored, is_temporary
from drop_ray.store.steps import ARTIFACTS, ATTEMPT_NAME, RECORD, Commit
from drop_ray.store.store import PROBE_PREFIX, Store

Tree = Mapping[str, Stored]


@dataclass(frozen=True)
class Garbage:
    """Files that can be removed."""

    kind: str
    """Why it can be removed, for people."""
    path: str
    """Path relative to the store."""
    size: int
    """Size in bytes; 0 for an unfinished upload, whose size the storage does not say."""
    remove: Callable[[], None]
    """Removes it."""


def find_garbage(store: Store, before: float, references: Collection[str] | None) -> Iterator[Garbage]:
    """Files last written before that time (seconds since 1970) that can be removed while runs go on.

    `references` are the paths (`artifacts/...`) of the artifacts that runs refer to. The units that these were made
    of are kept, too. None keeps every artifact.
    """
    folders: dict[str, dict[str, Stored]] = defaultdict(dict)
    for path, file in store.files.inventory("").items():
        top, _, rest = path.partition("/")
        if is_temporary(path):
            if file.modified < before:
                yield Garbage("temporary file", path, file.size, partial(store.files.remove, path))
        elif top.startswith(PROBE_PREFIX):
            folders[top][rest] = file
        elif top == ARTIFACTS and "/" in rest:
            name, _, inner = rest.partition("/")
            folders[f"{ARTIFACTS}/{name}"][inner] = file
    for upload in store.files.uploads():
        if upload.begun < before:
            yield Garbage("unfinished upload", upload.path, 0, partial(store.files.give_up, upload))
    artifacts = {path: tree for path, tree in folders.items() if path.startswith(f"{ARTIFACTS}/")}
    for path in folders.keys() - artifacts.keys():
        if _newest(folders[path]) < before:
            yield Garbage("probe", path, _bytes(folders[path]), partial(store.files.remove_folder, path))
    records = _read_records(store, [path for path, tree in artifacts.items() if RECORD in tree])
    needed = None if references is None else _needed(references, records)
    for path, tree in sorted(artifacts.items()):
        yield from _artifact_garbage(store, path, tree, records.get(path), before, needed)


def _artifact_garbage(
    store: Store,
    path: str,
    tree: Tree,
    record: Commit | CorruptArtifactError | None,
    before: float,
    needed: Collection[str] | None,
) -> Iterator[Garbage]:
    is_old = _newest(tree) < before
    if isinstance(record, CorruptArtifactError):
        if is_old:
            yield Garbage("unreadable record", path, _bytes(tree), partial(_remove_unreadable, store, path))
        return
    if record is not None and needed is not None and path not in needed and is_old:
        own = _attempts(tree).get(record.attempt, {})
        size = _bytes(own) + tree[RECORD].size
        yield Garbage("artifact of no run", path, size, partial(store.discard, record))
    for attempt, files in _attempts(tree).items():
        if (record is None or attempt != record.attempt) and _newest(files) < before:
            remove = partial(_remove_attempt, store, path, attempt)
            yield Garbage("lost attempt", f"{path}/{attempt}", _bytes(files), remove)


def _remove_attempt(store: Store, path: str, attempt: str) -> None:
    """Remove an attempt, unless its writer has recorded it after all."""
    record = store.commit_at(path.removeprefix(f"{ARTIFACTS}/"))
    if record is None or record.attempt != attempt:
        store.files.remove_folder(f"{path}/{attempt}")


def _remove_unreadable(store: Store, path: str) -> None:
    """Remove the record first. From then on the artifact is not there, and may be made again."""
    attempts = [name for name in store.files.names(path) if ATTEMPT_NAME.fullmatch(name)]
    store.files.remove(f"{path}/{RECORD}")
    for attempt in attempts:
        _remove_attempt(store, path, attempt)


def _read_records(store: Store, paths: Collection[str]) -> dict[str, Commit | CorruptArtifactError | None]:
    def read(path: str) -> Commit | CorruptArtifactError | None:
        record = f"{path}/{RECORD}"
        try:
            return Commit.from_json(store.files.read(record), store.files.absolute(record))
        except FileNotFoundError:
            return None
        except CorruptArtifactError as error:
            return error

    with ThreadPoolExecutor(READS_AT_ONCE) as readers:
        return dict(zip(paths, readers.map(read, paths), strict=True))


def _needed(references: Collection[str], records: Mapping[str, Commit | CorruptArtifactError | None]) -> set[str]:
    """The referenced artifacts, and the units that they were made of."""
    needed: set[str] = set()
    open_paths = set(references)
    while open_paths:
        path = open_paths.pop()
        needed.add(path)
        record = records.get(path)
        if isinstance(record, Commit):
            open_paths |= record.units.keys() - needed
    return needed


def _attempts(tree: Tree) -> dict[str, dict[str, Stored]]:
    attempts: dict[str, dict[str, Stored]] = defaultdict(dict)
    for path, file in tree.items():
        attempt, separator, inner = path.partition("/")
        if separator and ATTEMPT_NAME.fullmatch(attempt):
            attempts[attempt][inner] = file
    return attempts


def _newest(tree: Tree) -> float:
    return max(file.modified for file in tree.values())


def _bytes(tree: Tree) -> int:
    return sum(file.size for file in tree.values())
