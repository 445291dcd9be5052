"""Which of many steps are done, by a listing: a question for each step would take minutes on S3.

A listing says of every artifact whether its record is there, which files lie in its folder, their sizes, and when each
was written. A record is written last, so that no output of a sound artifact is younger than its record: only outputs
that are younger, which somebody has written to since, are read. All bytes are compared with the record when they are
read for use, as ever, and by `drop-ray verify`.

Of a record that the run has seen before, its size and the files beside it say that it is still the same one. Others are
read, several at a time.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from drop_ray.errors import CorruptArtifactError
from drop_ray.store.filesystem import READS_AT_ONCE, Stored
from drop_ray.store.steps import ATTEMPT_NAME, RECORD, Commit, Step
from drop_ray.store.store import HASHED_BY_FIND, Store

Found = Commit | CorruptArtifactError | None


def find_all(store: Store, steps: Iterable[Step], known: Mapping[str, Commit]) -> dict[str, Found]:
    """By each step's path its commit, what is wrong with its artifact, or None if it is not done.

    `known` are commits that were seen before, by path. What is wrong is as in `Store.find`.
    """
    unique = {step.path: step for step in steps}
    kinds: dict[str, list[str]] = defaultdict(list)
    for path, step in unique.items():
        kinds[step.name].append(path)
    trees = {path: tree for paths in kinds.values() for path, tree in store.files.trees(paths).items()}

    def find(path: str) -> Found:
        try:
            return _find(store, unique[path], trees[path], known.get(path))
        except CorruptArtifactError as error:
            return error

    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="lookup") as readers:
        found = dict(zip(trees, readers.map(find, trees), strict=True))
    return {path: found.get(path) for path in unique}


def _find(store: Store, step: Step, tree: Mapping[str, Stored], known: Commit | None) -> Commit | None:
    if RECORD not in tree:
        return store.find(step)  # attempts without a record, or something that is no artifact
    commit = known if known is not None and _is_same(known, step, tree) else store.recorded(step)
    if commit is None:
        return None  # discarded since the listing
    own = {
        path.removeprefix(f"{commit.attempt}/"): file for path, file in tree.items() if _attempt(path) == commit.attempt
    }
    if commit is not known and not own:
        return store.find(step)  # done again since the listing
    store.check_sizes(commit, {logical: file.size for logical, file in own.items()})
    for logical, output in commit.outputs.items():
        if own[logical].modified > tree[RECORD].modified and output.size <= HASHED_BY_FIND:
            store.read_bytes(commit, logical)
    return commit


def _is_same(known: Commit, step: Step, tree: Mapping[str, Stored]) -> bool:
    """Whether the record in a listed folder is the known one: an artifact that was done again has another attempt."""
    attempts = {_attempt(path) for path in tree} - {RECORD}
    return (
        (known.step.name, known.step.canonical) == (step.name, step.canonical)
        and {attempt for attempt in attempts if ATTEMPT_NAME.fullmatch(attempt)} == {known.attempt}
        and tree[RECORD].size == len(known.to_json().encode())
    )


def _attempt(path: str) -> str:
    return path.partition("/")[0]
