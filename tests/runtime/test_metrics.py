"""What a run tells Ray's metrics arrives in Prometheus' format, under the names that dashboards use."""

import re
import time
import urllib.request

import pytest
import ray
from tiny_run import config_of

from drop_ray.job.drivers import Presence, signs_of_life
from drop_ray.job.opening import open_job
from drop_ray.job.units import Share
from drop_ray.runtime import metrics
from drop_ray.runtime.watch import StageWatch
from drop_ray.store import outages

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


class Scored(Share):
    model_key = kind = None
    steps = ()
    tokens = 64

    def __init__(self, name):
        self._name = name

    @property
    def name(self):
        return self._name

    def run(self, worker):
        raise NotImplementedError


def test_a_stage_counts_its_units_and_tells_status(inputs, local_ray, tmp_path):
    job = open_job(config_of(inputs, tmp_path / "store", name="counted"))
    presence = Presence(job.store, job.run_folder)
    with StageWatch(presence, "counted", "score", "score base", "sample ranges", [Scored("a"), Scored("b")]) as watch:
        watch.working([], 2)
        watch.finished(Scored("a"), 0.5)
        watch.requeued()
        watch.finished(Scored("b"), 2.0)
        watch.failed()
    metrics.ProgressMetric("worker")(0.25)
    metrics.export_outages("counted")
    outages.OUTAGES.began()
    ((_, heartbeat),) = signs_of_life(job.store, job.run_folder)
    assert (heartbeat.stage, heartbeat.workers_ready, heartbeat.done) == ("score", 2, 2)

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
    of_run = {(metrics.STORE_UNREACHABLE, 1.0)}
    limit = time.monotonic() + 60  # Ray collects every few seconds
    found, found_of_run = set(), set()
    while not (wanted <= found and of_run <= found_of_run):
        assert time.monotonic() < limit, (wanted - found, of_run - found_of_run)
        time.sleep(0.2)
        for line in exported().splitlines():
            match = re.fullmatch(r"ray_(drop_ray_\w+)\{(.*)\} (\S+)", line)
            if match and all(f'{key}="{value}"' in match[2] for key, value in tags.items()):
                found.add((match[1], float(match[3])))
            elif match and 'run="counted"' in match[2]:
                found_of_run.add((match[1], float(match[3])))
    outages.OUTAGES.ended()
    (last,) = (value for name, value in found if name == metrics.LAST_UNIT)
    assert time.time() - 120 < last <= time.time()
