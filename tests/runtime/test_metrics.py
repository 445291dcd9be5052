"""What a run tells Ray's metrics arrives in Prometheus' format, under the names that dashboards use."""

import re
import time
import urllib.request

import pytest
import ray
from tiny_run import config_of

from drop_ray.job.opening import open_job
from drop_ray.runtime import metrics
from drop_ray.runtime.pool import Item
from drop_ray.runtime.watch import StageWatch
from drop_ray.store import open_store

NAMES = {value for name, value in vars(metrics).items() if name.isupper() and isinstance(value, str)}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names_are_ones_that_ray_keeps(name):
    assert re.fullmatch(r"drop_ray_[a-z0-9_]+", name)


def exported():
    """The text that Prometheus would get from this machine's node."""
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


def test_a_stage_counts_its_units_and_tells_status(inputs, local_ray, tmp_path):
    job = open_job(config_of(inputs, tmp_path / "store", name="counted"))
    with StageWatch(job, "score", "score base", "sample ranges", 2) as watch:
        watch.working([], 2)
        watch.finished(Item("a", None, tokens=64), 0.5)
        watch.requeued()
        watch.finished(Item("b", None, tokens=64), 2.0)
        watch.failed()
    metrics.ProgressMetric("worker")(1, 4)
    assert b'"workers_ready": 2' in open_store(job.config.store).read_file("runs/counted/heartbeat.json")

    # Not the sum of seconds: Ray adds up the middles of the buckets.
    tags = {"run": "counted", "stage": "score"}
    wanted = {
        (metrics.UNITS_DONE, 2.0),
        (metrics.UNITS_REQUEUED, 1.0),
        (metrics.UNITS_FAILED, 1.0),
        (f"{metrics.UNIT_SECONDS}_count", 2.0),
        (metrics.TOKENS_SCORED, 128.0),
        (metrics.WORKERS_READY, 2.0),
        (metrics.WORKERS_BUSY, 0.0),
    }
    limit = time.monotonic() + 60  # Ray collects every few seconds
    found = set()
    while not wanted <= found:
        assert time.monotonic() < limit, wanted - found
        time.sleep(0.2)
        for line in exported().splitlines():
            match = re.fullmatch(r"ray_(drop_ray_\w+)\{(.*)\} (\S+)", line)
            if match and all(f'{key}="{value}"' in match[2] for key, value in tags.items()):
                found.add((match[1], float(match[3])))
