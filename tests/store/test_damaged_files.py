"""A local store in which things stand where others should be: each is named, none is waited for, all can be mended."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from drop_ray.errors import CorruptArtifactError, StoreRefusedError, UserError
from drop_ray.store import Commit, Step, Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def replaced_by(make: Callable[[Path], object], name: Callable[[Commit], str]) -> Callable[[Path, Commit], None]:
    """Put something else in the place of a file or folder of an artifact."""

    def damage(root: Path, commit: Commit) -> None:
        path = root / name(commit)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        make(path)

    return damage


def record(commit: Commit) -> str:
    return commit.step.record_path


def output(commit: Commit) -> str:
    return f"{commit.folder}/scores.bin"


def attempt(commit: Commit) -> str:
    return commit.folder


def artifact(commit: Commit) -> str:
    return commit.step.path


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


DEEP = '{"attempt": ' + "[" * 5000 + "]" * 5000 + "}"
DAMAGES = {
    "record is deep": (
        replaced_by(text(DEEP), record),
        "commit.json is not a commit record: is nested deeper than 100 levels",
    ),
    "record is a list": (replaced_by(text("[1]"), record), "commit.json is not a commit record: must be a JSON object"),
    "record is foreign": (replaced_by(text('{"version": 1}'), record), "commit.json is not a commit record: KeyError"),
    "record is empty": (replaced_by(text(""), record), "commit.json is not a commit record: is not JSON"),
    "record is a folder": (replaced_by(Path.mkdir, record), "commit.json: is a folder, a device or a pipe"),
    "record is a pipe": (replaced_by(os.mkfifo, record), "commit.json: is a folder, a device or a pipe"),
    "record is a device": (
        replaced_by(lambda path: path.symlink_to("/dev/zero"), record),
        "commit.json: is a folder, a device or a pipe",
    ),
    "record is a loop": (replaced_by(lambda path: path.symlink_to(path), record), "commit.json: is a socket or a link"),
    "output is a folder": (replaced_by(Path.mkdir, output), "scores.bin: missing"),
    "output is a pipe": (replaced_by(os.mkfifo, output), "scores.bin: 0 bytes instead of"),
    "output is a device": (
        replaced_by(lambda path: path.symlink_to("/dev/zero"), output),
        "scores.bin: 9 bytes instead of",
    ),
    "attempt is a file": (replaced_by(text("x"), attempt), "scores.bin: missing"),
    "artifact is a file": (replaced_by(text("x"), artifact), "commit.json: a file stands where one of its folders"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_the_step_can_be_done_again(
    store: Store, tmp_path: Path, step: Step, scores: Path, damage: str
) -> None:
    first = store.commit(step, {"scores.bin": scores}, provenance={})
    make, message = DAMAGES[damage]
    make(tmp_path / "store", first)
    with pytest.raises(CorruptArtifactError) as raised:
        store.find(step)
    assert message in str(raised.value)
    assert step.path in str(raised.value)
    store.discard(step)
    again = store.commit(step, {"scores.bin": scores}, provenance={})
    assert store.find(step) == again


@pytest.mark.parametrize("size", ["1e400", "-1", "1.5", "true", '"10"', "null"])
def test_a_size_that_is_none_is_no_record(store: Store, step: Step, scores: Path, size: str) -> None:
    store.commit(step, {"scores.bin": scores}, provenance={})
    values = json.loads(store.read_file(step.record_path))
    values["outputs"]["scores.bin"]["size"] = 12345
    store.write_file(step.record_path, json.dumps(values).replace("12345", size).encode())
    with pytest.raises(CorruptArtifactError, match=r"commit\.json"):
        store.find(step)


WRITES: dict[str, Callable[[Store, Step, Path], object]] = {
    "upload": lambda store, step, scores: store.commit(step, {"scores.bin": scores}, provenance={}),
    "create": lambda store, step, scores: store.files.create(step.record_path, b"{}"),
    "replace": lambda store, step, scores: store.write_file("runs/a/report.html", b"x"),
}


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "No space left on device; free some"),
        (errno.EDQUOT, "Disk quota exceeded; free some"),
        (errno.EROFS, "Read-only file system; mount"),
        (errno.EACCES, "Permission denied; give this user the permission"),
        (errno.EIO, "Input/output error; the disk"),
        (errno.EFBIG, "File too large; a limit"),
    ],
)
@pytest.mark.parametrize("moment", WRITES)
def test_what_a_disk_refuses_is_said_with_the_remedy_and_the_step_can_be_done_later(
    store: Store, step: Step, scores: Path, monkeypatch: pytest.MonkeyPatch, moment: str, number: int, message: str
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreRefusedError, match=message) as raised:
            WRITES[moment](store, step, scores)
    assert str(store.location("")) in str(raised.value)
    assert store.find(store.commit(step, {"scores.bin": scores}, provenance={}).step)


def test_a_file_in_the_place_of_the_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    with pytest.raises(UserError, match="store: .* is not writable: "):
        open_store(str(tmp_path / "store")).check_writable()
