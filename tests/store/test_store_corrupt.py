"""Damaged artifacts: each fault is named, and the step can be redone after a discard."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from drop_ray.errors import CorruptArtifactError
from drop_ray.store import Commit, Step, Store

Damage = Callable[[Store, Commit], None]


def _output(commit: Commit) -> str:
    return f"{commit.folder}/scores.bin"


def _truncate_output(store: Store, commit: Commit) -> None:
    store.write_file(_output(commit), store.read_file(_output(commit))[:-1])


def _flip_a_byte(store: Store, commit: Commit) -> None:
    data = bytearray(store.read_file(_output(commit)))
    data[100] ^= 1
    store.write_file(_output(commit), bytes(data))


def _remove_output(store: Store, commit: Commit) -> None:
    store.files.remove(_output(commit))


def _truncate_record(store: Store, commit: Commit) -> None:
    record = commit.step.record_path
    store.write_file(record, store.read_file(record)[:-20])


def _change_record(store: Store, commit: Commit, **fields: object) -> None:
    record = json.loads(store.read_file(commit.step.record_path))
    store.write_file(commit.step.record_path, json.dumps({**record, **fields}).encode())


def _foreign_identity(store: Store, commit: Commit) -> None:
    _change_record(store, commit, step={"name": "score", "identity": {**commit.step.identity, "algorithm": 7}})


def _foreign_name(store: Store, commit: Commit) -> None:
    _change_record(store, commit, step={"name": "rank", "identity": commit.step.identity})


def _lead_outside(name: str) -> Damage:
    """As the record of someone who wants a file to be read, or written in a cache, that is not the artifact's."""

    def damage(store: Store, commit: Commit) -> None:
        outputs = json.loads(store.read_file(commit.step.record_path))["outputs"]
        _change_record(store, commit, outputs={**outputs, name: outputs["scores.bin"]})

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate_output, r"scores\.bin: 10239 bytes instead of 10240"),
        (_flip_a_byte, r"scores\.bin: sha256 \w+ instead of"),
        (_remove_output, r"scores\.bin: missing"),
        (_truncate_record, r"commit\.json is not a commit record: is not JSON"),
        (_foreign_identity, r"commit\.json has another identity: algorithm: 1 -> 7"),
        (_lead_outside("../../../outside"), r"commit\.json is not a commit record: .*is not a path inside its folder"),
        (_lead_outside("checkpoint/../../x"), r"commit\.json is not a commit record: .*is not a path inside"),
        (_lead_outside("/etc/passwd"), r"commit\.json is not a commit record: .*is not a path inside its folder"),
        (_lead_outside(""), r"commit\.json is not a commit record: .*is not a path inside its folder"),
        (partial(_change_record, attempt="../abcdef"), r"commit\.json is not a commit record: .*name of an attempt"),
        (partial(_change_record, attempt=None), r"commit\.json is not a commit record: TypeError"),
        (_foreign_name, r'commit\.json has another identity: step: "score" -> "rank"'),
    ],
)
def test_damage_is_named_and_redone_after_a_discard(
    store: Store, step: Step, scores: Path, damage: Damage, message: str
) -> None:
    first = store.commit(step, {"scores.bin": scores}, provenance={})
    damage(store, first)
    with pytest.raises(CorruptArtifactError, match=message) as found:
        store.find(step)
    assert step.path in str(found.value)
    with pytest.raises(CorruptArtifactError, match=message):
        store.commit(step, {"scores.bin": scores}, provenance={})
    store.discard(step)
    assert store.find(step) is None
    again = store.commit(step, {"scores.bin": scores}, provenance={})
    assert store.find(step) == again
    assert again.checksum == first.checksum


def test_a_discarded_artifact_leaves_no_files(store: Store, step: Step, scores: Path) -> None:
    store.discard(step)
    store.discard(store.commit(step, {"scores.bin": scores}, provenance={}))
    assert store.find(step) is None
    assert store.size(step.path) == 0


def test_discarding_a_commit_spares_its_successor(store: Store, step: Step, scores: Path) -> None:
    old = store.commit(step, {"scores.bin": scores}, provenance={})
    store.discard(step)
    new = store.commit(step, {"scores.bin": scores}, provenance={})
    store.discard(old)
    assert store.find(step) == new


def test_discarding_spares_an_attempt_that_is_not_recorded_yet(store: Store, step: Step, scores: Path) -> None:
    store.commit(step, {"scores.bin": scores}, provenance={})
    store.write_file(f"{step.path}/0a0a0a0a/scores.bin", b"under way")
    store.discard(step)
    assert store.list(step.path) == ["0a0a0a0a"]
    assert store.read_file(f"{step.path}/0a0a0a0a/scores.bin") == b"under way"


def test_large_outputs_are_hashed_when_read_and_not_when_found(
    store: Store, step: Step, scores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drop_ray.store.store.HASHED_BY_FIND", scores.stat().st_size - 1)
    commit = store.commit(step, {"scores.bin": scores}, provenance={})
    _flip_a_byte(store, commit)
    assert store.find(step) == commit
    with pytest.raises(CorruptArtifactError, match="sha256"):
        store.read_bytes(commit, "scores.bin")


def test_a_checksum_is_of_names_and_bytes_only(store: Store, step: Step, scores: Path, tmp_path: Path) -> None:
    first = store.commit(step, {"scores.bin": scores}, units={"u": "1"}, provenance={"host": "n0"})
    store.discard(first)
    second = store.commit(step, {"scores.bin": scores}, provenance={"host": "n1"})
    assert (second.attempt, second.provenance) != (first.attempt, first.provenance)
    assert second.checksum == first.checksum
    renamed = replace(first, outputs={"other.bin": first.outputs["scores.bin"]})
    assert renamed.checksum != first.checksum
