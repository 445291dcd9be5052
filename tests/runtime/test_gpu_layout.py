"""Workers of several GPUs score as workers of one each, on a cluster whose GPUs are only said to be there."""

import json
import subprocess
import sys

import pytest
from tiny_run import config_of, config_values

from drop_ray.job.ledger import read_manifest
from drop_ray.pipeline import run
from drop_ray.store import open_store

pytestmark = pytest.mark.alone

# torch sees no GPU, so that the workers compute on CPUs; Ray counts 2, and nobody asks the node what they are.
ON_TWO_GPUS = """
import json, sys
import ray
from drop_ray.config import parse_config
from drop_ray.pipeline import run
from drop_ray.runtime import cluster
ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
cluster.ask_nodes = lambda *_, **__: ([], 80 * 10**9)
run(parse_config(json.loads(sys.argv[1]), "test"), "score")
"""


def scores(config):
    store = open_store(config.store)
    steps = [step for stage, _, step in read_manifest(store, f"runs/{config.name}") if stage == "score"]
    return {step.path: store.find(step) for step in steps}


@pytest.mark.full
@pytest.mark.parametrize(
    "number",
    [
        {"num_workers": 1, "gpus_per_worker": 2},
        pytest.param({"num_workers": "auto", "gpus_per_worker": 1}, marks=pytest.mark.nightly),
    ],
)
def test_a_worker_of_two_gpus_scores_as_two_of_one_and_auto_takes_both(inputs, local_ray, tmp_path, number):
    alone = config_of(inputs, tmp_path / "alone")
    run(alone, "score")
    execution = {**number, "cpus_per_worker": 1, "layers": "streamed"}
    values = config_values(inputs, tmp_path / "spread", execution=execution)
    done = subprocess.run(
        [sys.executable, "-c", ON_TWO_GPUS, json.dumps(values)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found, known = scores(config_of(inputs, tmp_path / "spread")), scores(alone)
    assert {path: commit.checksum for path, commit in found.items()} == {
        path: commit.checksum for path, commit in known.items()
    }
    measured = [commit.provenance["measured"] for commit in found.values() if "measured" in commit.provenance]
    assert len(measured) == 10
    assert {one["gpus"] for one in measured} == {1.0}
    assert all(commit.provenance["measured"]["gpus"] == 0 for commit in known.values() if "node" in commit.provenance)
