"""A run's folder with damage in it: status, verify, gc and the next start each say what and where, and go on or end."""

import json
import os
import time

import pytest

from drop_ray.cli import main
from drop_ray.config import parse_config
from drop_ray.errors import DropRayError, UserError
from drop_ray.job.garbage import gc_lines
from drop_ray.job.ledger import Ledger
from drop_ray.job.run_files import FILES, RunFiles, are_complete, recorded_files
from drop_ray.job.status import run_status
from drop_ray.job.verify import verify
from drop_ray.store import Step, open_store

RUN = "runs/mine"
STEP = Step("score", {"number": 1})


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def config(tmp_path):
    values = {"name": "mine", "model": {"path": "m"}, "calibration": {"source": "t"}, "store": str(tmp_path / "store")}
    return parse_config(values, "test")


@pytest.fixture
def finished(store, tmp_path):
    """A run with one unit and two files, that has come to its end."""
    (tmp_path / "scores.bin").write_bytes(b"12345")
    commit = store.commit(STEP, {"scores.bin": tmp_path / "scores.bin"}, provenance={})
    ledger = Ledger(store, RUN)
    ledger.pending("score", {"unit": STEP})
    ledger.write()
    files = RunFiles(store, RUN)
    files.write("config.yaml", b"name: mine")
    files.write("tables/scores.parquet", b"PAR1")
    files.finish()
    return commit


def test_verify_compares_the_runs_own_files(store, config, finished):
    result = verify(config)
    assert (result.faults, result.files, result.unchecked) == ([], 2, False)
    store.write_file(f"{RUN}/tables/scores.parquet", b"PAR2")
    store.files.remove(f"{RUN}/config.yaml")
    first, second = verify(config).faults
    assert first.endswith("runs/mine/config.yaml: missing")
    assert second.endswith(
        "scores.parquet: other bytes than the run wrote; remove it, and `drop-ray report` writes it anew"
    )


def test_a_start_that_did_not_end_leaves_files_unchecked_and_the_next_one_that_does_keeps_the_rest(store, finished):
    again = RunFiles(store, RUN)
    again.write("config.yaml", b"name: mine # changed")
    assert not are_complete(store, RUN)
    again.finish()
    assert are_complete(store, RUN)
    assert {name: [output.size for output in outputs] for name, outputs in recorded_files(store, RUN).items()} == {
        "config.yaml": [20],
        "tables/scores.parquet": [4],
    }
    last = RunFiles(store, RUN)
    last.remove("tables/scores.parquet")
    last.finish()
    assert list(recorded_files(store, RUN)) == ["config.yaml"]


def test_a_file_that_is_there_is_not_written_again_and_one_that_was_touched_is(store, finished, monkeypatch):
    contents = {"config.yaml": b"name: mine", "tables/scores.parquet": b"PAR1"}

    def written():
        names = []
        monkeypatch.setattr(store, "write_file", lambda path, data: (names.append(path), write(path, data)))
        again = RunFiles(store, RUN)
        for name, data in contents.items():
            again.write(name, data)
        again.finish()
        return [name.removeprefix(f"{RUN}/") for name in names if f"/{FILES}/" not in name]

    write = store.write_file
    assert written() == []
    write(f"{RUN}/config.yaml", b"name: mind")  # as long as it was
    later = time.time() + 10
    os.utime(store.location(f"{RUN}/config.yaml"), (later, later))
    assert written() == ["config.yaml"]
    store.files.remove(f"{RUN}/tables/scores.parquet")
    assert written() == ["tables/scores.parquet"]
    assert RunFiles(store, RUN).finish() is None  # nothing asked for: what is there stays listed
    assert len(recorded_files(store, RUN)) == 2


def test_a_crashed_start_leaves_no_trace_after_the_next_one_that_ends(store, config, finished):
    RunFiles(store, RUN).write("config.yaml", b"name: halfway")
    assert verify(config).unchecked
    last = RunFiles(store, RUN)
    last.write("config.yaml", b"name: mine")
    last.finish()
    assert len(store.list(f"{RUN}/{FILES}")) == 1
    result = verify(config)
    assert (result.faults, result.files, result.unchecked) == ([], 2, False)


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_of_two_starts_at_once_either_ones_bytes_are_right(store, config, finished, first_to_end):
    starts = [RunFiles(store, RUN), RunFiles(store, RUN)]
    for name, data in (("run.json", b"a"), ("report.md", b"b")):
        order = starts if name == "run.json" else starts[::-1]
        for start in order:
            start.write(name, data + (b"" if start is starts[0] else b", warned"))
    starts[first_to_end].finish()
    starts[1 - first_to_end].finish()
    assert verify(config).faults == []
    assert verify(config).files == 4
    store.write_file(f"{RUN}/run.json", b"c")
    (fault,) = verify(config).faults
    assert "run.json: other bytes" in fault
    last = RunFiles(store, RUN)
    for name, data in (("run.json", b"a"), ("report.md", b"b")):
        last.write(name, data)
    last.finish()
    assert verify(config).faults == []
    assert {name: len(outputs) for name, outputs in recorded_files(store, RUN).items()} == {
        "config.yaml": 1,
        "tables/scores.parquet": 1,
        "run.json": 1,
        "report.md": 1,
    }


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "{}", '{"files": []}', '{"files": {"../x": {"size": 1, "sha256": ""}}}']
)
def test_a_list_of_files_that_cannot_be_read_is_one_fault(store, config, finished, text):
    (name,) = store.list(f"{RUN}/{FILES}")
    store.write_file(f"{RUN}/{FILES}/{name}", text.encode())
    (fault,) = verify(config).faults
    assert f"{name}: " in fault
    RunFiles(store, RUN).finish()
    assert verify(config).faults == []


STEPS = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "deep": lambda path: path.write_text("[" * 5000 + "]" * 5000),
    "foreign": lambda path: path.write_text('{"a": 1}'),
    "null": lambda path: path.write_text("[null]"),
    "bad name": lambda path: path.write_text('[{"stage": "s", "label": "l", "name": "A b", "identity": {}}]'),
    "bad identity": lambda path: path.write_text('[{"stage": "s", "label": "l", "name": "a", "identity": 7}]'),
    "bad stage": lambda path: path.write_text('[{"stage": [], "label": "l", "name": "a", "identity": {}}]'),
    "binary": lambda path: path.write_bytes(b"\x00\xff\xfe"),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", STEPS)
def test_a_list_of_units_that_cannot_be_read_is_named_by_all_and_written_anew_by_the_next_start(
    store, config, finished, tmp_path, damage, caplog
):
    STEPS[damage](tmp_path / "store" / RUN / "steps.json")
    for look in (
        lambda: run_status(config, ["score"]),
        lambda: verify(config),
        lambda: list(gc_lines(config.store, "0m", delete=True)),
    ):
        with pytest.raises(UserError, match=r"steps\.json: "):
            look()
    assert store.find(STEP) == finished
    ledger = Ledger(store, RUN)
    ledger.pending("score", {"unit": STEP})
    ledger.write()
    assert "it is written anew" in caplog.text
    assert verify(config).faults == []


def test_status_names_a_sign_of_life_that_cannot_be_read(store, config, finished):
    store.discard(STEP)
    assert "no driver is running" in [*run_status(config, ["score"]).lines()]
    store.write_file(f"{RUN}/drivers/host-1.json", b"\x00")
    (line,) = [line for line in run_status(config, ["score"]).lines() if "host-1.json" in line]
    assert line.endswith("the next start of the run removes it")
    assert len(verify(config).faults) == 1


def test_every_damaged_artifact_is_a_line_of_status_and_verify(store, config, finished, tmp_path):
    record = tmp_path / "store" / STEP.record_path
    values = json.loads(record.read_bytes())
    for text in ("[" * 5000, "{}", json.dumps({**values, "outputs": {"x": None}})):
        record.write_text(text)
        (unit,) = run_status(config, ["score"]).units
        assert unit.state == "corrupt"
        assert "commit.json is not a commit record" in unit.detail
        assert len(verify(config).faults) == 1
        try:
            list(gc_lines(config.store, "0m", delete=False))
        except DropRayError:
            pytest.fail("gc goes on")


def test_what_is_found_is_said_to_programs_too(tmp_path, store, finished, capsys):
    path = tmp_path / "run.yaml"
    model, calibration = {"path": "demo:model"}, {"source": "demo:calibration.jsonl"}
    values = {"name": "mine", "model": model, "calibration": calibration, "store": str(tmp_path / "store")}
    path.write_text(json.dumps(values))
    assert main(["status", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["counts"]) == ("mine", {"done": 1})
    assert found["units"][0]["detail"] == STEP.path
    assert main(["verify", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["units"], found["faults"]) == (1, [])
