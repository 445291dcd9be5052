"""Committing and finding: what is done is found, what is not done is not, and one writer wins."""

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from drop_ray.store import Commit, Step, Store, open_store

WRITERS = 8


def test_a_step_that_was_never_committed_is_not_found(store: Store, step: Step) -> None:
    assert store.find(step) is None
    assert store.list(step.path) == []


def test_a_commit_is_found_by_an_equal_step_in_another_store_object(
    url: str, store: Store, step: Step, scores: Path
) -> None:
    made = store.commit(step, {"scores.bin": scores}, units={"artifacts/u-1": "ab"}, provenance={"host": "n0"})
    equal = Step("score", {"algorithm": 1, "samples": [0, 16], "model": "3f2a"})
    found = open_store(url).find(equal)
    assert found == made
    assert found.units == {"artifacts/u-1": "ab"}
    assert found.provenance == {"host": "n0"}
    assert store.read_bytes(found, "scores.bin") == scores.read_bytes()
    assert store.find(Step("score", {**step.identity, "algorithm": 2})) is None


def test_a_second_commit_returns_the_first_and_leaves_no_files(store: Store, step: Step, scores: Path) -> None:
    first = store.commit(step, {"scores.bin": scores}, provenance={})
    scores.write_bytes(b"other")
    assert store.commit(step, {"scores.bin": scores}, provenance={}) == first
    assert store.list(step.path) == sorted([first.attempt, "commit.json"])


def test_folders_are_committed_file_by_file(store: Store, step: Step, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "nested [1]").mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "nested [1]" / "empty").write_bytes(b"")
    (checkpoint / "link.json").symlink_to(checkpoint / "config.json")
    commit = store.commit(step, {"model": checkpoint}, provenance={})
    assert sorted(commit.outputs) == ["model/config.json", "model/link.json", "model/nested [1]/empty"]
    assert store.read_bytes(commit, "model/link.json") == b"{}"
    assert store.find(step) == commit
    assert store.path_of(commit, "model").endswith(f"{step.path}/{commit.attempt}/model")
    with pytest.raises(KeyError, match="mod"):
        store.path_of(commit, "mod")


def test_an_empty_folder_or_a_missing_file_is_not_committed(store: Store, step: Step, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty folder"):
        store.commit(step, {"model": tmp_path / "empty"}, provenance={})
    with pytest.raises(FileNotFoundError, match="absent"):
        store.commit(step, {"scores": tmp_path / "absent"}, provenance={})
    assert store.find(step) is None


def test_a_failed_copy_leaves_no_files(store: Store, step: Step, scores: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.commit(step, {"scores.bin": scores, "second": tmp_path / "absent"}, provenance={})
    assert store.size(step.path) == 0


def test_an_unrecordable_provenance_fails_before_anything_is_copied(store: Store, step: Step, scores: Path) -> None:
    with pytest.raises(TypeError, match="PosixPath"):
        store.commit(step, {"scores.bin": scores}, provenance={"log": scores})
    assert store.size(step.path) == 0


def test_racing_threads_have_one_winner(url: str, store: Store, step: Step, tmp_path: Path) -> None:
    start = Barrier(WRITERS)

    def write(writer: int) -> Commit:
        start.wait()
        return _commit_own_bytes(open_store(url), step, tmp_path, writer)

    with ThreadPoolExecutor(WRITERS) as pool:
        commits = list(pool.map(write, range(WRITERS)))
    _assert_one_winner(store, step, commits)


def test_racing_processes_have_one_winner(tmp_path: Path, step: Step) -> None:
    store = open_store(str(tmp_path / "store"))
    context = multiprocessing.get_context("spawn")
    with context.Pool(WRITERS, _wait_for_all, [context.Barrier(WRITERS)]) as pool:
        calls = [(store, step, tmp_path, writer) for writer in range(WRITERS)]
        commits = pool.starmap(_commit_when_all_are_ready, calls, chunksize=1)
    _assert_one_winner(store, step, commits)


def test_a_process_killed_before_the_record_leaves_nothing_found(store: Store, step: Step, scores: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_die_before_the_record, args=(store, step, scores))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert store.size(step.path) == scores.stat().st_size, "the output was there, the record was not"
    assert store.find(step) is None
    commit = store.commit(step, {"scores.bin": scores}, provenance={})
    assert store.find(step) == commit


def test_a_store_works_after_pickling(store: Store, step: Step, scores: Path) -> None:
    commit = store.commit(step, {"scores.bin": scores}, provenance={})
    pickled = pickle.dumps(store)
    assert b"S3FileSystem" not in pickled, "a connection must be opened where it is used"
    copy = pickle.loads(pickled)
    assert copy.find(step) == commit
    assert copy.path_of(commit, "scores.bin") == store.path_of(commit, "scores.bin")


def _commit_own_bytes(store: Store, step: Step, scratch: Path, writer: int) -> Commit:
    own = scratch / f"writer-{writer}"
    own.write_bytes(f"bytes of writer {writer}".encode())
    return store.commit(step, {"scores.bin": own}, provenance={"writer": writer})


def _assert_one_winner(store: Store, step: Step, commits: list[Commit]) -> None:
    (winner,) = {commit.attempt: commit for commit in commits}.values()
    assert all(commit == winner for commit in commits)
    assert store.find(step) == winner
    assert store.read_bytes(winner, "scores.bin") == f"bytes of writer {winner.provenance['writer']}".encode()
    assert store.list(step.path) == sorted([winner.attempt, "commit.json"])


_all_ready: Any = None


def _wait_for_all(barrier: Any) -> None:
    global _all_ready
    _all_ready = barrier


def _commit_when_all_are_ready(store: Store, step: Step, scratch: Path, writer: int) -> Commit:
    _all_ready.wait()
    return _commit_own_bytes(store, step, scratch, writer)


def _die_before_the_record(store: Store, step: Step, scores: Path) -> None:
    store.files.create = lambda path, data: os._exit(9)  # type: ignore[method-assign]
    store.commit(step, {"scores.bin": scores}, provenance={})
