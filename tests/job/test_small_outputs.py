"""Small results in one file of the run: read from it, never believed without their hash, and complete without it."""

import pytest

from drop_ray.errors import CorruptArtifactError
from drop_ray.job import small_outputs
from drop_ray.job.small_outputs import read_outputs
from drop_ray.store import Step, Store, open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def wanted(store, tmp_path):
    made = []
    for number in range(3):
        file = tmp_path / "metrics.json"
        file.write_bytes(b"result %d" % number)
        made.append((store.commit(Step("evaluate", {"n": number}), {"m": file}, provenance={}), "m"))
    return made


EXPECTED = [b"result 0", b"result 1", b"result 2"]


@pytest.fixture
def reads(monkeypatch):
    names, read = [], Store.read_bytes

    def watched(self, commit, logical):
        names.append(commit.step.identity["n"])
        return read(self, commit, logical)

    monkeypatch.setattr(Store, "read_bytes", watched)
    return names


def test_artifacts_are_read_once_and_new_ones_are_added(store, wanted, reads):
    assert read_outputs(store, "runs/a", wanted[:2]) == EXPECTED[:2]
    assert read_outputs(store, "runs/a", wanted) == EXPECTED
    assert read_outputs(store, "runs/a", wanted[::-1]) == EXPECTED[::-1]
    assert sorted(reads) == [0, 1, 2]


def test_large_outputs_stay_where_they_are(store, wanted, reads, monkeypatch):
    monkeypatch.setattr(small_outputs, "SMALL_BYTES", 3)
    for _ in range(2):
        assert read_outputs(store, "runs/a", wanted) == EXPECTED
    assert sorted(reads) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("damage", [lambda data: data[:50], lambda data: data.replace(b"ult 1", b"ult 7")])
def test_a_damaged_file_gives_no_wrong_bytes(store, wanted, damage, monkeypatch):
    write = small_outputs.pq.write_table
    monkeypatch.setattr(
        small_outputs.pq, "write_table", lambda table, sink, **_: write(table, sink, compression="none")
    )
    read_outputs(store, "runs/a", wanted)
    store.write_file("runs/a/outputs.parquet", damage(store.read_file("runs/a/outputs.parquet")))
    assert read_outputs(store, "runs/a", wanted) == EXPECTED


def test_an_output_that_is_not_what_was_committed_is_named_and_done_again_next_time(store, wanted):
    commit, _ = wanted[1]
    store.write_file(f"{commit.folder}/m", b"result 9")
    with pytest.raises(CorruptArtifactError, match=f"{commit.folder}/m: sha256"):
        read_outputs(store, "runs/a", wanted)
    assert store.find(commit.step) is None
