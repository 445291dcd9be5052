"""The cache of a node: fetched once, whole or not at all, never taken from under a user, never larger than allowed."""

import errno
import multiprocessing
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from s3_server import Application, S3Server

from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.store import Commit, Step, Store
from drop_ray.store.node_cache import KEPT_FREE, NodeCache

PROCESSES = 4
SIZE = 1000
Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> NodeCache:
    return NodeCache(str(root), None)


@pytest.fixture
def commit(store: Store, step: Step, tmp_path: Path) -> Commit:
    checkpoint = tmp_path / "checkpoint"
    (checkpoint / "nested").mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "nested" / "weights").write_bytes(bytes(range(256)))
    return store.commit(step, {"checkpoint": checkpoint, "other": checkpoint}, provenance={})


def put(cache: NodeCache, key: str, size: int = SIZE) -> Path:
    return cache.entry(key, size, key, lambda folder: _write(folder, size))


def _write(folder: Path, size: int) -> None:
    (folder / "bytes").write_bytes(b"x" * size)


def entries(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "entries").iterdir())


def test_a_committed_folder_is_there_with_its_bytes_and_nothing_else(
    store: Store, cache: NodeCache, commit: Commit
) -> None:
    folder = cache.folder_of(store, commit, "checkpoint")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.json": b"{}", "nested/weights": bytes(range(256))}
    assert cache.folder_of(store, commit, "checkpoint") == folder
    cache.release(folder)
    assert (folder / "config.json").read_text() == "{}"


@pytest.mark.parametrize("url", ["local"], indirect=True)
def test_a_folder_of_a_local_store_is_not_copied(store: Store, cache: NodeCache, commit: Commit, root: Path) -> None:
    assert str(cache.folder_of(store, commit, "checkpoint")) == store.path_of(commit, "checkpoint")
    assert not root.exists()


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_a_folder_is_fetched_once_for_all_processes(
    s3_server: S3Server, store: Store, commit: Commit, root: Path
) -> None:
    first = NodeCache(str(root), None).folder_of(store, commit, "checkpoint")

    def refuse(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        raise AssertionError(environ["PATH_INFO"])

    s3_server.fault = refuse
    assert NodeCache(str(root), None).folder_of(store, commit, "checkpoint") == first


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_changed_bytes_are_refused_and_leave_no_entry(
    store: Store, cache: NodeCache, commit: Commit, root: Path
) -> None:
    store.write_file(f"{commit.folder}/checkpoint/nested/weights", bytes(256))
    with pytest.raises(CorruptArtifactError, match="nested/weights: sha256"):
        cache.folder_of(store, commit, "checkpoint")
    assert entries(root) == []


def test_processes_that_want_the_same_fetch_it_once(root: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES) as pool:
        folders = pool.starmap(_get_and_log, [(root, tmp_path / "log")] * PROCESSES, chunksize=1)
    assert len(set(folders)) == 1
    assert (tmp_path / "log").read_text() == "fetched\n"


def test_a_process_killed_while_it_fetches_leaves_nothing_in_the_way(root: Path, cache: NodeCache) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_die_while_fetching, args=(root,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert list((root / "unfinished").rglob("half")) != []
    assert entries(root) == []
    assert (put(cache, "a") / "bytes").stat().st_size == SIZE
    assert entries(root) == ["a"]
    assert list((root / "unfinished").iterdir()) == []


def test_a_fetch_that_fails_leaves_nothing_and_can_be_tried_again(root: Path, cache: NodeCache) -> None:
    def fail(folder: Path) -> None:
        _write(folder, 10)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        cache.entry("a", SIZE, "a", fail)
    assert entries(root) == []
    assert put(cache, "a").is_dir()


def test_the_least_recently_used_entries_make_room(root: Path) -> None:
    cache = NodeCache(str(root), 3 * SIZE)
    for number, key in enumerate("abc"):
        cache.release(put(cache, key))
        os.utime(root / "entries" / key, (number, number))
    cache.release(put(cache, "a"))
    put(cache, "d")
    assert entries(root) == ["a", "c", "d"]
    put(cache, "e", 2 * SIZE)
    assert entries(root) == ["d", "e"]


def test_what_another_process_uses_is_not_removed(root: Path) -> None:
    user, other = NodeCache(str(root), 2 * SIZE), NodeCache(str(root), 2 * SIZE)
    folder = put(user, "a")
    put(other, "b", 100)
    with pytest.raises(UserError, match=r"^execution\.cache_dir: c takes 2000 bytes.*room for 900 .*cache_bytes"):
        put(other, "c", 2 * SIZE)
    assert (folder / "bytes").stat().st_size == SIZE
    user.release(folder)
    put(other, "d", 1900)
    assert entries(root) == ["b", "d"]


def test_a_disk_without_room_is_named_before_anything_is_fetched(
    root: Path, cache: NodeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(1 << 40, 0, KEPT_FREE + 999))
    with pytest.raises(UserError, match=r"execution\.cache_dir: model takes 1000 bytes, but .*cache has room for 999"):
        cache.entry("a", 1000, "model", lambda folder: pytest.fail("fetched"))
    cache.entry("b", 999, "model", lambda folder: _write(folder, 999))


def test_a_disk_that_fills_up_meanwhile_is_named(root: Path, cache: NodeCache) -> None:
    def fill_up(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"execution\.cache_dir: .*filled by others meanwhile"):
        cache.entry("a", SIZE, "model", fill_up)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"execution\.cache_dir: .*file.* cannot be used"):
        put(NodeCache(str(tmp_path / "file"), None), "a")


def test_an_entry_that_somebody_changed_is_named(root: Path, cache: NodeCache) -> None:
    folder = put(cache, "a")
    cache.release(folder)
    (folder / "bytes").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"execution\.cache_dir: .*/a has 3 bytes, but a has 1000"):
        put(cache, "a")


def _get_and_log(root: Path, log: Path) -> Path:
    def fetch(folder: Path) -> None:
        with log.open("a") as file:
            file.write("fetched\n")
        _write(folder, SIZE)

    return NodeCache(str(root), None).entry("a", SIZE, "a", fetch)


def _die_while_fetching(root: Path) -> None:
    def fetch(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        os._exit(9)

    NodeCache(str(root), None).entry("a", SIZE, "a", fetch)
