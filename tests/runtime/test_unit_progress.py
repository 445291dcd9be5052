"""How far a worker is in a long share: the driver sees it while the worker works, and so does `drop-ray status`."""

import os
import time

import pytest
import ray
from tiny_run import config_of

from drop_ray.job import drivers
from drop_ray.job.drivers import Presence, signs_of_life
from drop_ray.job.heartbeat import BusyWorker
from drop_ray.job.opening import open_job
from drop_ray.job.units import Share
from drop_ray.runtime import pool, watch
from drop_ray.runtime.logs import describe_this_worker
from drop_ray.runtime.pool import Pool, PoolSettings
from drop_ray.runtime.unit_progress import UnitProgress, with_progress
from drop_ray.runtime.watch import StageWatch

pytestmark = pytest.mark.alone


class Long(Share):
    model_key = None
    kind = "long"
    steps = ()
    name = "sample 0"

    def run(self, progress):
        tell = progress.part("layers", 0.5, 1.0)
        tell(1, 2)  # three quarters
        time.sleep(2)
        tell(2, 2)
        return []


class Worker:
    def start(self):
        self.progress = UnitProgress()
        return describe_this_worker()

    def run(self, share):
        self.progress.begin(share.name)
        return share.run(self.progress)


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(pool, "WATCH_S", 0.2)
    monkeypatch.setattr(drivers, "INTERVAL_S", 0.2)
    monkeypatch.setattr(watch, "NOTE_INTERVAL_S", 0.2)


def test_the_driver_sees_how_far_a_share_is_and_what_is_left(local_ray, inputs, tmp_path, often, monkeypatch, caplog):
    job = open_job(config_of(inputs, tmp_path / "store", name="long"))
    presence = Presence(job.store, job.run_folder)
    seen = []
    write = Presence.write
    monkeypatch.setattr(Presence, "write", lambda self, beat: (write(self, beat), seen.append(beat)))
    workers = Pool(ray.remote(Worker).options(num_cpus=0.5).remote, PoolSettings(1, 3, 60.0, "auto"))
    try:
        with StageWatch(presence, "long", "score", "score", "sample ranges", [Long()]) as stage:
            assert len(list(workers.run("score", [Long()], stage))) == 1
    finally:
        workers.close()
    said = [beat for beat in seen if beat.busy and beat.busy[0].fraction is not None]
    assert {beat.busy[0].fraction for beat in said} == {0.75}
    low, high = said[-1].left_s
    elapsed = said[-1].time - said[-1].busy[0].since
    assert low < elapsed / 3 < high
    write(presence, said[-1])
    ((_, sign),) = signs_of_life(job.store, job.run_folder)
    assert sign == said[-1]
    assert any("sample 0: 75% done" in line for line in sign.lines(time.time()))
    assert "left" in next(iter(sign.lines(time.time())))


def test_a_note_of_an_earlier_share_says_nothing_of_the_next(local_ray):
    progress = UnitProgress()
    worker = BusyWorker("second", ray.util.get_node_ip_address(), os.getpid(), 0.0, False)
    progress.begin("first")
    progress.part("layers")(1, 4)
    assert with_progress([worker]) == [worker]
    progress.begin("second")
    assert with_progress([worker]) == [worker]
    progress.part("layers")(1, 4)
    assert with_progress([worker])[0].fraction == 0.25
