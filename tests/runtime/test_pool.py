"""The pool on a real local Ray: lost workers are replaced, errors of the application stop the run with its log."""

import os
import signal
import time
from itertools import groupby
from pathlib import Path

import psutil
import pytest
import ray

from drop_ray.errors import UserError, WorkerFailedError
from drop_ray.job.units import Share
from drop_ray.runtime.logs import describe_this_worker
from drop_ray.runtime.pool import Pool, PoolSettings
from drop_ray.runtime.watcher import Watcher


class Worker:
    """Does what a share says."""

    def __init__(self, start=None):
        if start == "raise in constructor":
            raise ValueError("no such device")
        self.how = start

    def start(self):
        if self.how == "raise":
            print("the model is missing", file=os.sys.stderr, flush=True)
            raise ValueError("no such model")
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return describe_this_worker()

    def run(self, share):
        return share.run(self)


class Order(Share):
    """Gives its worker's process and a value back, or sleeps, raises or dies before."""

    def __init__(self, name, order, model_key=None):
        self._name, self._order, self._model_key = name, order, model_key

    @property
    def name(self):
        return self._name

    @property
    def model_key(self):
        return self._model_key

    @property
    def kind(self):
        return self._order[0]

    @property
    def steps(self):
        return ()

    def run(self, worker):
        kind, value = self._order
        if kind == "die always" or (kind == "die once" and not Path(value).exists()):
            if kind == "die once":
                Path(value).touch()
            print("about to vanish", file=os.sys.stderr, flush=True)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "freeze once" and not Path(value).exists():
            Path(value).touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        if kind == "raise":
            raise RuntimeError(f"cannot do {value}")
        if kind == "user error":
            raise UserError(f"evaluation.tasks: {value}")
        if kind == "sleep":
            time.sleep(value)
        return os.getpid(), value


@pytest.fixture
def make_pool(local_ray):
    pools = []

    def make(start=None, num_actors=2, max_attempts=3, num_cpus=0.5, start_timeout_s=60.0, unit_timeout="auto"):
        actor = ray.remote(Worker).options(num_cpus=num_cpus, max_restarts=0)
        settings = PoolSettings(num_actors, max_attempts, start_timeout_s, unit_timeout)
        pools.append(Pool(lambda: actor.remote(start), settings))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def shares(*orders):
    return [Order(f"share {index}", order) for index, order in enumerate(orders)]


def test_every_share_is_done_once_and_actors_are_kept_for_the_next_call(make_pool):
    pool = make_pool()
    first = list(pool.run("stage", shares(*(("square", n) for n in range(6)))))
    assert sorted(result[1] for _, result in first) == list(range(6))
    second = list(pool.run("stage", shares(*(("square", n) for n in range(6)))))
    assert len({result[0] for _, result in first + second}) <= 2


def test_an_actor_gets_the_shares_of_the_plan_it_holds(make_pool):
    work = [Order(f"{plan}{n}", ("sleep", 0.05), plan) for n in range(4) for plan in "ab"]
    plans_by_worker = {}
    for share, (pid, _) in make_pool().run("stage", work):
        plans_by_worker.setdefault(pid, []).append(share.model_key)
    # However late the second actor starts, none goes back to a plan that it has given up.
    for plans in plans_by_worker.values():
        assert [plan for plan, _ in groupby(plans)] in (["a"], ["b"], ["a", "b"], ["b", "a"])


def test_a_lost_worker_is_replaced_and_its_share_done_again(make_pool, tmp_path):
    work = shares(*(("square", n) for n in range(4)), ("die once", str(tmp_path / "mark")), ("square", 9))
    results = list(make_pool().run("stage", work))
    assert sorted(share.name for share, _ in results) == [f"share {n}" for n in range(6)]


class Notes(Watcher):
    def __init__(self):
        self.told = []
        self.busy = []

    def working(self, busy, num_ready):
        assert len(busy) <= num_ready <= 2
        self.busy += [(worker.unit, worker.pid) for worker in busy]

    def finished(self, share, seconds):
        assert seconds >= 0
        self.told.append(f"finished {share.name}")

    def requeued(self):
        self.told.append("requeued")

    def killed(self, worker, seconds):
        self.told.append(f"killed the worker of {worker.unit}")
        self.frozen = worker.pid

    def failed(self):
        self.told.append("failed")


def test_a_watcher_is_told_who_is_busy_and_what_became_of_every_share(make_pool, tmp_path):
    notes = Notes()
    work = shares(("die once", str(tmp_path / "mark")), ("square", 2))
    results = dict(make_pool(num_actors=1).run("stage", work, notes))
    assert sorted(notes.told) == ["finished share 0", "finished share 1", "requeued"]
    # Twice the share whose worker was lost, on two workers.
    assert {unit for unit, _ in notes.busy} == {"share 0", "share 1"}
    assert results[work[0]][0] in {pid for _, pid in notes.busy}
    with pytest.raises(WorkerFailedError):
        list(make_pool(num_actors=1).run("stage", shares(("raise", "x")), notes))
    assert notes.told[-1] == "failed"


def test_a_frozen_worker_is_not_waited_for_and_ended_although_it_cannot_end_itself(make_pool, tmp_path, caplog):
    notes = Notes()
    work = shares(("freeze once", str(tmp_path / "mark")), ("square", 2))
    results = dict(make_pool(unit_timeout=1.0).run("stage", work, notes))
    assert [results[share][1] for share in work] == [str(tmp_path / "mark"), 2]
    assert "killed the worker of share 0" in notes.told
    assert "another worker is asked too (execution.unit_timeout)" in caplog.text
    limit = time.monotonic() + 30
    while psutil.pid_exists(notes.frozen):
        assert time.monotonic() < limit, "the process is still there"
        time.sleep(0.1)


def test_a_share_that_somebody_else_has_done_is_not_sent(make_pool):
    work = shares(("square", 0), ("raise", "it was sent"), ("square", 2))
    results = make_pool().run("stage", work, find_done=lambda share: "found" if share is work[1] else None)
    assert {share.name: result[1] for share, result in results} == {"share 0": 0, "share 1": "o", "share 2": 2}


def test_a_share_that_always_loses_its_worker_is_named_with_the_workers_last_lines(make_pool):
    with pytest.raises(
        WorkerFailedError,
        match=r"(?s)share 0: its worker was lost 2 times.*memory is used up: .* has .*GiB.*about to vanish",
    ):
        list(make_pool(max_attempts=2).run("stage", shares(("die always", ""))))


def test_an_application_error_stops_at_once_and_is_not_tried_again(make_pool):
    pool = make_pool(num_actors=1)
    done = []
    with pytest.raises(WorkerFailedError, match=r"(?s)share 1 failed: RuntimeError: cannot do x.*log "):
        done += [share.name for share, _ in pool.run("stage", shares(("square", 0), ("raise", "x"), ("square", 2)))]
    assert "share 2" not in done


def test_a_user_error_in_a_worker_arrives_as_itself(make_pool):
    with pytest.raises(UserError, match=r"^evaluation.tasks: nothing$"):
        list(make_pool().run("stage", shares(("user error", "nothing"))))


@pytest.mark.parametrize(("start", "message"), [("raise", "no such model"), ("raise in constructor", "no such device")])
def test_an_error_while_starting_is_the_applications(make_pool, start, message):
    with pytest.raises(WorkerFailedError, match=rf"(?s)a starting worker failed: .*ValueError: {message}"):
        list(make_pool(start=start).run("stage", shares(("square", 1))))


def test_workers_that_keep_dying_while_starting_end_the_run(make_pool):
    with pytest.raises(WorkerFailedError, match="3 workers in a row were lost while starting"):
        list(make_pool(start="die").run("stage", shares(("square", 1))))


def test_a_pool_for_which_there_is_no_room_gives_up_after_its_timeout(make_pool, monkeypatch):
    monkeypatch.setattr("drop_ray.runtime.pool.WATCH_S", 0.5)
    with pytest.raises(WorkerFailedError, match="no worker became ready within 1 s; the cluster has .*CPU"):
        list(make_pool(num_cpus=1000, start_timeout_s=1.0).run("stage", shares(("square", 1))))


def test_a_pool_smaller_than_asked_for_does_all_the_work(make_pool):
    # Two of the five actors have room; the others never become ready, and nobody waits for them.
    results = list(make_pool(num_actors=5, num_cpus=2).run("stage", shares(*(("square", n) for n in range(8)))))
    assert len(results) == 8
