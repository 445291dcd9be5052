"""The records that a run has seen: written now and then, believed line by line."""

from pathlib import Path

import pytest

from drop_ray.job import known_commits
from drop_ray.job.known_commits import KnownCommits
from drop_ray.store import Commit, Output, Step, open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def commit(number):
    outputs = {"metrics.json": Output(3, "ab")}
    return Commit(Step("evaluate", {"n": number}), "00ff00ff", outputs, {"u": "1"}, {"host": "a"}, "2026-01-02")


def known(store):
    return dict(KnownCommits(store, "runs/a").commits)


def paths(*numbers):
    return {commit(number).step.path: commit(number) for number in numbers}


def test_what_was_written_is_known_to_the_next_start(store):
    first = KnownCommits(store, "runs/a")
    for number in range(3):
        first.add(commit(number))
    assert known(store) == {}, "not yet written"
    first.write()
    assert known(store) == paths(0, 1, 2)
    second = KnownCommits(store, "runs/a")
    second.add(commit(3))
    second.write()
    assert known(store) == paths(0, 1, 2, 3)


def test_records_are_written_while_units_are_done_and_not_for_each(store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(known_commits.time, "monotonic", lambda: now[0])
    writer = KnownCommits(store, "runs/a")
    for number in range(100):
        now[0] += 1
        writer.add(commit(number))
    assert len(known(store)) == 100
    now[0] += 1
    writer.add(commit(100))
    assert len(known(store)) == 100


def test_what_is_known_already_is_not_written_again(store, monkeypatch):
    writer = KnownCommits(store, "runs/a")
    writer.add(commit(1))
    writer.write()
    monkeypatch.setattr(type(store), "write_file", lambda *_: pytest.fail("written again"))
    writer.add(commit(1))
    writer.write()
    other = KnownCommits(store, "runs/a")
    other.add(commit(1))
    other.write()


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"\xff[[" + data, lambda data: b""])
def test_damaged_lines_are_records_that_are_not_known(store, tmp_path, damage):
    writer = KnownCommits(store, "runs/a")
    for number in range(3):
        writer.add(commit(number))
    writer.write()
    file = Path(tmp_path / "store/runs/a/commits.jsonl")
    file.write_bytes(damage(file.read_bytes()))
    assert known(store).items() <= paths(0, 1, 2).items()
    assert len(known(store)) in (0, 2)
