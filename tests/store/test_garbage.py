"""`drop-ray gc` and `drop-ray verify`: only what nobody needs goes, and only with --delete; every damage is named."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from drop_ray.cli import main
from drop_ray.job.garbage import gc_lines
from drop_ray.job.ledger import Ledger
from drop_ray.store import Commit, Step, Store
from drop_ray.store.garbage import find_garbage

LATER = 10.0
UNFINISHED = "; the run's own files were not compared, since it has not come to its end"


@pytest.fixture
def config(url: str, tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    fields: dict[str, Any] = {"model": {"path": "m"}, "calibration": {"source": "t"}, "store": url}
    path.write_text(yaml.safe_dump(fields))
    return str(path)


def make(store: Store, scores: Path, number: int, **fields: Any) -> Commit:
    return store.commit(Step("score", {"number": number}), {"scores.bin": scores}, provenance={}, **fields)


def refer(store: Store, run: str, *commits: Commit, stage: str = "score") -> None:
    ledger = Ledger(store, f"runs/{run}")
    ledger.pending(stage, {commit.step.path: commit.step for commit in commits})
    ledger.write()


def found(store: Store, references: set[str] | None, age: float = -LATER) -> dict[str, str]:
    """{path: kind} of what is older than `age` seconds."""
    return {garbage.path: garbage.kind for garbage in find_garbage(store, time.time() - age, references)}


def leave_rubbish(store: Store, kept: Commit) -> dict[str, str]:
    """One of each kind of what dead writers leave, with its kind."""
    folder = kept.step.path
    store.write_file(f"{folder}/0a0a0a0a/scores.bin", b"lost the race")
    store.write_file("artifacts/score-dead/0b0b0b0b/scores.bin", b"never recorded")
    store.write_file("artifacts/score-damaged/commit.json", b"{")
    store.write_file("artifacts/score-damaged/0c0c0c0c/scores.bin", b"unreadable")
    store.write_file(".probe-abc/probe", b"first")
    return {
        f"{folder}/0a0a0a0a": "lost attempt",
        "artifacts/score-dead/0b0b0b0b": "lost attempt",
        "artifacts/score-damaged": "unreadable record",
        ".probe-abc": "probe",
    }


def test_what_dead_writers_left_is_found_and_removed_and_nothing_else(store: Store, scores: Path) -> None:
    kept = make(store, scores, 1)
    rubbish = leave_rubbish(store, kept)
    assert found(store, None) == rubbish
    for garbage in list(find_garbage(store, time.time() + LATER, None)):
        garbage.remove()
    assert found(store, None) == {}
    assert store.find(kept.step) == kept
    assert store.size("") == store.size(kept.step.path) == scores.stat().st_size + len(kept.to_json())


def test_what_was_written_lately_is_left_alone(store: Store, scores: Path) -> None:
    leave_rubbish(store, make(store, scores, 1))
    assert found(store, set(), age=LATER) == {}


@pytest.mark.parametrize("url", ["local"], indirect=True)
def test_temporary_files_of_a_killed_writer_are_found(store: Store, url: str, scores: Path) -> None:
    kept = make(store, scores, 1)
    temporary = Path(url, kept.step.path, ".tmp-123")
    temporary.write_bytes(b"half a record")
    assert store.files.sizes(kept.step.path).keys() == {"commit.json", f"{kept.attempt}/scores.bin"}
    (garbage,) = find_garbage(store, time.time() + LATER, None)
    assert (garbage.kind, garbage.size) == ("temporary file", 13)
    garbage.remove()
    assert not temporary.exists()
    assert store.find(kept.step) == kept


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_an_unfinished_upload_is_found_and_given_up(store: Store, scores: Path, s3_url: str) -> None:
    kept = make(store, scores, 1)
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    for key in (f"{prefix}/artifacts/x/0a0a0a0a/large", "elsewhere/large"):
        store.files._s3.call("create_multipart_upload", Bucket=bucket, Key=key)  # type: ignore[attr-defined]
    (garbage,) = find_garbage(store, time.time() + LATER, None)
    assert (garbage.kind, garbage.path) == ("unfinished upload", "artifacts/x/0a0a0a0a/large")
    garbage.remove()
    assert found(store, None) == {}
    assert store.find(kept.step) == kept


def test_artifacts_of_no_run_go_but_not_what_needed_ones_were_made_of(store: Store, scores: Path) -> None:
    unit, other = make(store, scores, 1), make(store, scores, 2)
    table = make(store, scores, 3, units={unit.step.path: unit.checksum})
    assert found(store, {table.step.path}) == {other.step.path: "artifact of no run"}
    assert found(store, None) == {}
    for garbage in list(find_garbage(store, time.time() + LATER, {table.step.path})):
        garbage.remove()
    assert [store.find(commit.step) for commit in (unit, table, other)] == [unit, table, None]


def test_an_attempt_that_was_recorded_meanwhile_stays(store: Store, scores: Path) -> None:
    kept = make(store, scores, 1)
    record = store.read_file(kept.step.record_path)
    store.files.remove(kept.step.record_path)
    (garbage,) = find_garbage(store, time.time() + LATER, set())
    store.files.create(kept.step.record_path, record)
    garbage.remove()
    assert store.find(kept.step) == kept


def test_gc_names_what_it_would_remove_and_removes_it_when_told(store: Store, scores: Path, url: str) -> None:
    kept = make(store, scores, 1)
    rubbish = leave_rubbish(store, kept)
    refer(store, "a", kept)
    # Everything here was just written, and so is of a run that may be going on.
    assert next(gc_lines(url, "24h", delete=True)).endswith("24h: a")
    assert list(gc_lines(url, "0m", delete=False))[-1].startswith(f"{len(rubbish)} to remove (--delete), ")
    lines = list(gc_lines(url, "0m", delete=True))
    assert lines[-1].startswith(f"{len(rubbish)} removed, ")
    assert {line.split()[-1] for line in lines[:-1]} == rubbish.keys()
    assert list(gc_lines(url, "0m", delete=True)) == ["0 removed, 0 B"]
    assert store.find(kept.step) == kept


def test_gc_of_a_run_keeps_the_artifacts_of_all_runs_of_its_store(store: Store, scores: Path, config: str) -> None:
    mine, theirs, nobodys = (make(store, scores, number) for number in range(3))
    refer(store, "mine", mine)
    refer(store, "theirs", theirs)
    assert main(["gc", config, "--older-than", "0m", "--delete"]) == 0
    assert [store.find(commit.step) for commit in (mine, theirs, nobodys)] == [mine, theirs, None]


def test_gc_keeps_the_stages_that_a_new_start_of_a_run_has_not_come_to(store: Store, scores: Path, config: str) -> None:
    score, old_score, report = (make(store, scores, number) for number in range(3))
    refer(store, "mine", score, old_score)
    refer(store, "mine", report, stage="evaluate")
    refer(store, "mine", score)
    assert main(["gc", config, "--older-than", "0m", "--delete"]) == 0
    assert [store.find(commit.step) for commit in (score, old_score, report)] == [score, None, report]


def test_gc_keeps_what_a_run_took_from_other_library_versions(store: Store, scores: Path, config: str) -> None:
    old, new = (Step("score", {"number": 1, "versions": {"torch": version}}) for version in ("2.12", "2.13"))
    taken = store.commit(old, {"scores.bin": scores}, provenance={})
    ledger = Ledger(store, "runs/mine", reuse=True)
    assert ledger.pending("score", {"scores": new}) == {}
    ledger.write()
    assert main(["gc", config, "--older-than", "0m", "--delete"]) == 0
    assert store.find(old) == taken
    assert main(["verify", config]) == 0


@pytest.mark.parametrize("url", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "gc: there is nothing at nowhere"),
        (["STORE", "--older-than", "yesterday"], "--older-than yesterday: write minutes, hours or days"),
        (["STORE", "--older-than", "0m"], "steps.json: is not JSON"),
    ],
)
def test_gc_refuses_what_it_cannot_be_sure_of(
    store: Store, url: str, scores: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = make(store, scores, 1)
    store.write_file("runs/a/steps.json", b"[{")
    assert main(["gc", "--delete", *(url if word == "STORE" else word for word in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert store.find(kept.step) == kept


def test_verify_reads_everything_again_and_names_each_fault(
    store: Store, scores: Path, config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drop_ray.store.store.HASHED_BY_FIND", 0)
    commits = [make(store, scores, number) for number in range(4)]
    refer(store, "mine", *commits)
    assert main(["verify", config]) == 0
    assert capsys.readouterr().out == f"4 units, 4 outputs, 0 files of the run, 40.0 KiB read: 0 faults{UNFINISHED}\n"
    data = bytearray(scores.read_bytes())
    data[5000] ^= 1
    store.write_file(f"{commits[0].folder}/scores.bin", bytes(data))
    store.files.remove(f"{commits[1].folder}/scores.bin")
    store.write_file(commits[2].step.record_path, b"{")
    assert store.find(commits[0].step) == commits[0], "a resumed run reads large files no more"
    assert main(["verify", config]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "scores.bin: sha256" in lines[0]
    assert "scores.bin: missing" in lines[1]
    assert "is not a commit record" in lines[2]
    assert lines[3].endswith(f"3 faults{UNFINISHED}")


def test_verify_counts_what_is_not_done_and_refuses_an_unknown_run(
    store: Store, scores: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", config]) == 2
    ledger = Ledger(store, "runs/mine")
    ledger.pending("score", {"undone": Step("score", {"number": 9})})
    ledger.write()
    assert main(["verify", config]) == 0
    assert capsys.readouterr().out.endswith(f"0 faults; 1 units are not done{UNFINISHED}\n")
