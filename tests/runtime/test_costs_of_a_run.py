"""What units took goes into their commits, and from there into the report of every run that uses them."""

import pyarrow.parquet as pq
import pytest
from local_run import start_worker

from drop_ray.job.ledger import read_manifest
from drop_ray.job.opening import open_job
from drop_ray.pipeline import run
from drop_ray.store import Step, open_store


@pytest.fixture
def worker(inputs, tmp_path):
    from tiny_run import config_of

    return start_worker(open_job(config_of(inputs, tmp_path / "store")), run="mine")


def commit(worker, tmp_path, name, **measured):
    path = tmp_path / name
    path.write_text(name)
    return worker.commit(Step(name, {"name": name}), {name: path}, measured)


def test_units_of_a_share_have_its_time_between_them(worker, tmp_path, monkeypatch):
    clock = iter([100.0, 103.0, 107.5, 200.0, 201.0])
    monkeypatch.setattr("drop_ray.job.worker.time.monotonic", lambda: next(clock))
    worker.gpus = 0.5
    worker.begin()
    first, second = commit(worker, tmp_path, "a"), commit(worker, tmp_path, "b", asked_tokens=7)
    worker.begin()  # it waited for its next share
    third = commit(worker, tmp_path, "c")
    assert first.provenance["measured"] == {"seconds": 3.0, "gpus": 0.5}
    assert second.provenance["measured"] == {"seconds": 4.5, "gpus": 0.5, "asked_tokens": 7}
    assert third.provenance["measured"]["seconds"] == 1.0
    assert third.provenance["run"] == "mine"


def test_what_it_took_identifies_nothing(worker, tmp_path):
    one = commit(worker, tmp_path, "a")
    worker.store.discard(one)
    again = commit(worker, tmp_path, "a", seconds=1e9)
    assert again.checksum == one.checksum
    assert again.step == one.step
    assert again.provenance["measured"]["seconds"] == 1e9


def costs(config):
    table = pq.read_table(f"{config.store}/runs/{config.name}/tables/costs.parquet")
    return {row["stage"]: row for row in table.to_pylist()}


def test_a_run_tells_its_own_work_from_that_of_others(make_config):
    first = make_config(name="first")
    run(first)
    own = costs(first)
    assert [*own] == ["score", "evaluate"]
    units = [stage for stage, _, step in read_manifest(open_store(first.store), "runs/first") if stage == "evaluate"]
    assert own["evaluate"]["units"] == len(units) == 6
    assert own["evaluate"]["asked_tokens"] > own["evaluate"]["computed_tokens"] > 0  # its choices share their contexts
    assert own["score"]["asked_tokens"] == 0
    assert all(row["worker_seconds"] > 0 and not row["reused_units"] for row in own.values())
    assert all(row["gpu_seconds"] == 0 and row["expected_gpu_seconds"] is None for row in own.values())

    second = make_config(name="second", plans=[{"strategy": "attention", "drop": [1, 3]}])
    run(second)
    found = costs(second)
    assert found["score"]["reused_units"] == found["score"]["units"] == 10
    assert found["score"]["worker_seconds"] == 0
    assert found["score"]["reused_worker_seconds"] == pytest.approx(own["score"]["worker_seconds"])
    # The base and attention-1 on a task and a text were there; attention-3 is new.
    assert (found["evaluate"]["units"], found["evaluate"]["reused_units"]) == (6, 4)
    assert found["evaluate"]["worker_seconds"] > 0

    # Written anew it says the same, and with stated GPUs what they are expected to take: all units, done or not.
    run(make_config(name="first", execution={"gpus_per_worker": 1, "hardware": "l4"}))
    assert costs(first) != own
    for stage, row in costs(first).items():
        assert {**row, "expected_gpu_seconds": None} == own[stage]
        assert 0 < row["expected_gpu_seconds"] < 1
