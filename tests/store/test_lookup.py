"""Many steps looked up at once: what one look at each would say, for a listing and few reads."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from s3_server import Application, S3Server

from drop_ray.errors import CorruptArtifactError
from drop_ray.store import Commit, Step, Store, open_store
from drop_ray.store.lookup import find_all

NUM_STEPS = 12


@pytest.fixture
def steps() -> list[Step]:
    kinds = ["evaluate", "perplexity"]
    return [Step(kinds[number % 2], {"number": number}) for number in range(NUM_STEPS)]


@pytest.fixture
def commits(store: Store, steps: list[Step], scores: Path) -> list[Commit]:
    """All steps but the last two are done; a folder with another step of the kind lies beside them."""
    store.commit(Step("evaluate", {"number": -1}), {"scores.bin": scores}, provenance={})
    return [store.commit(step, {"scores.bin": scores}, provenance={"n": 1}) for step in steps[:-2]]


@pytest.fixture
def requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    count: Counter[str] = Counter()
    for name in ("read", "sizes", "trees"):
        method = getattr(type(store.files), name)

        def counted(self: object, *args: object, name: str = name, method: Callable[..., object] = method) -> object:
            count[name] += 1
            return method(self, *args)

        monkeypatch.setattr(type(store.files), name, counted)
    return count


def known_of(commits: list[Commit]) -> dict[str, Commit]:
    return {commit.step.path: commit for commit in commits}


def test_what_is_done_is_found_and_what_is_not_is_not(store: Store, steps: list[Step], commits: list[Commit]) -> None:
    expected = {step.path: store.find(step) for step in steps}
    assert find_all(store, steps, {}) == expected
    assert find_all(store, steps, known_of(commits)) == expected
    assert list(expected.values()).count(None) == 2
    assert find_all(store, [], {}) == {}


def test_known_records_are_not_read_again_and_others_once(
    store: Store, steps: list[Step], commits: list[Commit], requests: Counter[str]
) -> None:
    find_all(store, steps, known_of(commits))
    assert requests == {"trees": 2}
    requests.clear()
    find_all(store, steps, known_of(commits[:-3]))
    assert requests == {"trees": 2, "read": 3}


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def flip(path: Path) -> None:
    """As a program that writes to a file does: the size is as before, and the time is not."""
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    later = path.stat().st_mtime + 5
    os.utime(path, (later, later))


DAMAGE: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "cut": ("output", lambda path: path.write_bytes(path.read_bytes()[:-1]) and None, "10239 bytes instead of 10240"),
    "grown": ("output", grow, "10241 bytes instead of 10240"),
    "gone": ("output", Path.unlink, "missing"),
    "written to": ("output", flip, "sha256 .* instead of"),
    "record cut": ("record", lambda path: path.write_bytes(path.read_bytes()[:-9]) and None, "not a commit record"),
}


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_as_by_a_look_at_one_step(
    tmp_path: Path, steps: list[Step], scores: Path, kind: str, is_known: bool
) -> None:
    from drop_ray.store import open_store

    store = open_store(str(tmp_path / "local"))
    commits = [store.commit(step, {"scores.bin": scores}, provenance={}) for step in steps]
    what, damage, message = DAMAGE[kind]
    victim = commits[3]
    place = victim.step.record_path if what == "record" else f"{victim.folder}/scores.bin"
    damage(tmp_path / "local" / place)
    found = find_all(store, steps, known_of(commits) if is_known else {})
    fault = found.pop(victim.step.path)
    assert isinstance(fault, CorruptArtifactError)
    with pytest.raises(CorruptArtifactError, match=message) as alone:
        store.find(victim.step)
    assert str(fault) == str(alone.value)
    assert found == known_of([commit for commit in commits if commit is not victim])


def test_an_artifact_that_was_done_again_is_not_taken_for_the_known_one(
    store: Store, steps: list[Step], commits: list[Commit], scores: Path
) -> None:
    known = known_of(commits)
    store.discard(commits[0])
    again = store.commit(steps[0], {"scores.bin": scores}, provenance={"n": 2})
    store.files.remove(commits[1].step.record_path)
    other = store.commit(steps[1], {"scores.bin": scores}, provenance={"n": 2})
    store.discard(commits[2])
    found = find_all(store, steps, known)
    assert [found[step.path] for step in steps[:3]] == [again, other, None]


def test_a_record_of_another_step_is_named(store: Store, steps: list[Step], commits: list[Commit]) -> None:
    store.write_file(commits[0].step.record_path, store.read_file(commits[2].step.record_path))
    fault = find_all(store, steps, {})[steps[0].path]
    assert isinstance(fault, CorruptArtifactError)
    assert "has another identity: number: 0 -> 2" in str(fault)


def test_a_unit_that_is_begun_while_it_is_looked_up_is_not_done(s3_server: S3Server, s3_url: str) -> None:
    store, step = open_store(s3_url), Step("score", {"number": 1})
    key = f"{s3_url.removeprefix('s3://artifacts/')}/{step.path}"
    begun = []

    def fault(moto: Application, environ: dict[str, Any], start_response: Any) -> Any:
        if not begun and environ["REQUEST_METHOD"] == "HEAD" and environ["PATH_INFO"].endswith(step.path):
            begun.append(key)
            boto3.client("s3").put_object(Bucket="artifacts", Key=f"{key}/1a2b3c4d/scores.bin", Body=b"0")
        return moto(environ, start_response)

    s3_server.fault = fault
    assert find_all(store, [step], {}) == {step.path: None}
    assert begun
    assert find_all(store, [step], {}) == {step.path: None}
