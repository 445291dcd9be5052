"""Searches on a Ray cluster: one worker or three, two of them killed, give the same plans and the same bytes."""

from pathlib import Path

import pytest
from processes import workers_killed_when

from drop_ray.job.ledger import read_manifest
from drop_ray.pipeline import run
from drop_ray.store import open_store

PLANS = [
    {"strategy": "greedy", "of": "joint", "drop": [2, 4], "width": 3},
    {"strategy": "greedy", "of": "block", "drop": [2], "objective": "draft"},
    {"strategy": "joint", "drop": [2], "iterative": 1, "on": "refitted"},
]


def checksums(config):
    store = open_store(config.store)
    steps = [step for stage, _, step in read_manifest(store, f"runs/{config.name}") if stage in ("plan", "refit")]
    return {step.path: store.find(step).checksum for step in steps}


@pytest.mark.full
def test_any_number_of_workers_and_killed_ones_find_the_same_plans(make_config, caplog):
    def config(workers, store):
        execution = {"num_workers": workers, "cpus_per_worker": 0.5}
        return make_config(store=store, plans=PLANS, refit=[{"ridge": 0.1, "held_out": 4}], execution=execution)

    calm, disturbed = config(1, "calm"), config(3, "disturbed")
    expected = run(calm, "plan").plans
    artifacts = Path(disturbed.store) / "artifacts"
    with workers_killed_when(lambda: len([*artifacts.glob("diverge-*/commit.json")]) >= 2):
        assert run(disturbed, "plan").plans == expected
    assert "worker lost, attempt 1 of 3" in caplog.text
    assert checksums(disturbed) == checksums(calm)
    assert run(disturbed, "plan").computed == 0
