"""A run's folder with damage in it: status, verify, gc and the next start each say what and where, and go on or end."""

import json
import os
import time

import pytest

from drop_ray.config import parse_config
from drop_ray.errors import DropRayError, UserError
from drop_ray.job.garbage import gc_lines
from drop_ray.job.ledger import Ledger
from drop_ray.job.run_files import FILES, RunFiles, recorded_files
from drop_ray.job.status import status_lines
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
    assert recorded_files(store, RUN) is None
    again.finish()
    assert {name: output.size for name, output in recorded_files(store, RUN).items()} == {
        "config.yaml": 20,
        "tables/scores.parquet": 4,
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
        return [name.removeprefix(f"{RUN}/") for name in names if not name.endswith(FILES)]

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


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "{}", '{"files": [], "finished": true}', '{"files": {"../x": {"size": 1, "sha256": ""}}}']
)
def test_a_list_of_files_that_cannot_be_read_is_one_fault(store, config, finished, text):
    store.write_file(f"{RUN}/{FILES}", text.encode())
    (fault,) = verify(config).faults
    assert "files.json: " in fault
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
        lambda: list(status_lines(config, ["score"])),
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
    assert "no driver is running" in list(status_lines(config, ["score"]))
    store.write_file(f"{RUN}/drivers/host-1.json", b"\x00")
    (line,) = [line for line in status_lines(config, ["score"]) if "host-1.json" in line]
    assert line.endswith("the next start of the run removes it")
    assert len(verify(config).faults) == 1


def test_every_damaged_artifact_is_a_line_of_status_and_verify(store, config, finished, tmp_path):
    record = tmp_path / "store" / STEP.record_path
    values = json.loads(record.read_bytes())
    for text in ("[" * 5000, "{}", json.dumps({**values, "outputs": {"x": None}})):
        record.write_text(text)
        lines = list(status_lines(config, ["score"]))
        assert "corrupt" in lines[0]
        assert "commit.json is not a commit record" in lines[0]
        assert len(verify(config).faults) == 1
        try:
            list(gc_lines(config.store, "0m", delete=False))
        except DropRayError:
            pytest.fail("gc goes on")
