"""An elastic pool of actors that survives the loss of workers and nodes, and workers that hang.

Shares go only to actors that have finished starting. A lost actor is replaced and its share requeued, a bounded number
of times. If the cluster shrank, a replacement cannot be scheduled and never becomes ready, so that the pool goes on
smaller. A share that takes too long goes to a second actor too, and the first answer counts (`deadlines`). An error of
the application itself, also in an actor's constructor, stops the run at once.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from drop_ray.errors import DropRayError, WorkerFailedError
from drop_ray.job.heartbeat import BusyWorker
from drop_ray.job.units import Share
from drop_ray.runtime.deadlines import Attempt, Deadlines
from drop_ray.runtime.logs import application_error, last_words
from drop_ray.runtime.losses import LOST_WORKER, HungWorkerError, Losses, kill_hung
from drop_ray.runtime.pool_worker import PoolWorker
from drop_ray.runtime.share_queue import ShareQueue
from drop_ray.runtime.watcher import NOBODY, Watcher
from drop_ray.text.units import human_duration

logger = logging.getLogger(__name__)

# If a worker and its replacements are lost so often in a row while starting, a node is broken, and the pool gives up.
# Each worker counts by itself, since a node that vanishes takes all of its starting workers with it.
MAX_LOST_STARTS = 3
# How often a watcher is told at least.
WATCH_S = 3.0

Result = tuple[Share, Any]


def nothing(_: Share) -> None:
    """Finds no result of a share."""


@dataclass(frozen=True)
class PoolSettings:
    """How large a pool is, and when it gives up."""

    num_actors: int
    """Number of actors that work at the same time, if the cluster has room for them."""
    max_attempts: int
    """Number of workers that one share may lose; with the last of them the run fails."""
    start_timeout_s: float
    """Seconds to wait for a first worker."""
    unit_timeout: float | Literal["auto"]
    """Seconds after which a second worker is asked for a share; `auto` learns them from those that were finished."""


class Pool:
    """Actors that are kept between calls of `run`, so that each loads its libraries and model once.

    `make_actor` makes an actor with `start() -> WorkerInfo`, which loads, and `run(share)`. Ray must not restart it.
    """

    def __init__(self, make_actor: Callable[[], Any], settings: PoolSettings):
        self._make_actor = make_actor
        self._settings = settings
        self._in_flight: dict[Any, PoolWorker] = {}
        self._idle: list[PoolWorker] = []
        self._begin("", (), NOBODY)

    def run(
        self,
        title: str,
        shares: Sequence[Share],
        watcher: Watcher = NOBODY,
        find_done: Callable[[Share], Any] = nothing,
    ) -> Iterator[Result]:
        """Yield (share, result of `actor.run(share)`) as they finish.

        An actor preferably gets shares whose `model_key` is that of its last one, if that was also in a call with this
        `title`. `find_done` is asked before a share is sent, and gives its result if somebody else has done it. Raises
        WorkerFailedError naming the share and the worker's log, or the worker's own DropRayError. Both close the pool.
        """
        self._begin(title, shares, watcher)
        quiet_since = time.monotonic()
        try:
            self._start_wanted()
            while True:
                yield from self._hand_out(find_done)
                if not self._queue.num_wanted:
                    break
                watcher.working(*self._state())
                done, _ = ray.wait(list(self._in_flight), num_returns=1, timeout=self._deadlines.pause_s(WATCH_S))
                now = time.monotonic()
                if done:
                    quiet_since = now
                    yield from self._collect(self._in_flight.pop(done[0]), done[0])
                self._check_alive(now - quiet_since)
                self._keep_deadlines()
            self._end_late_copies()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop every actor, at once."""
        for worker in [*self._idle, *self._in_flight.values()]:
            ray.kill(worker.actor)
        self._idle, self._in_flight = [], {}

    def _begin(self, title: str, shares: Sequence[Share], watcher: Watcher) -> None:
        self._queue, self._watcher = ShareQueue(title, shares), watcher
        self._losses = Losses(self._settings.max_attempts)
        self._deadlines = Deadlines(self._settings.unit_timeout)

    def _start_wanted(self) -> None:
        """Start actors until there are as many as have something to do, or as the pool may have."""
        while len(self._idle) + len(self._in_flight) < min(self._settings.num_actors, self._queue.num_wanted):
            self._start()

    def _start(self, lost_starts: int = 0) -> None:
        worker = PoolWorker(self._make_actor(), lost_starts=lost_starts)
        self._in_flight[worker.actor.start.remote()] = worker

    def _state(self) -> tuple[list[BusyWorker], int]:
        """The workers that have a share, and how many have started."""
        attempts = self._attempts()
        busy = [attempt.worker.busy(self._deadlines.is_late(attempt)) for attempt in attempts]
        return busy, sum(worker.info is not None for worker in (*self._idle, *self._in_flight.values()))

    def _hand_out(self, find_done: Callable[[Share], Any]) -> Iterator[Result]:
        """Give every idle actor a share. Yields those that somebody else has done."""
        while (given := self._queue.take(self._idle, list(self._in_flight.values()))) is not None:
            worker, share = given
            result = find_done(share)
            if result is not None:
                self._queue.finish(share)
                self._watcher.found(share)
                yield share, result
                continue
            self._idle.remove(worker)
            worker.give(share, self._queue.key(share))
            self._in_flight[worker.actor.run.remote(share)] = worker

    def _collect(self, worker: PoolWorker, reference: Any) -> Iterator[Result]:
        """Take what a worker delivered: readiness, a result, its loss, or an error of the application."""
        share = worker.share
        try:
            result = ray.get(reference)
        except LOST_WORKER as error:
            if isinstance(error, RayActorError) and error.actor_init_failed:
                raise _failed("a starting worker", worker, error) from error
            ray.kill(worker.actor)
            self._replace(worker, error)
            return
        except RayTaskError as error:
            self._watcher.failed()
            if isinstance(error.cause, DropRayError):
                raise error.cause from error
            raise _failed(share.name if share else "a starting worker", worker, error) from error
        except RayError as error:  # such as an environment that cannot be set up: it would fail again
            raise _failed(share.name if share else "a starting worker", worker, error) from error
        worker.share = None
        self._idle.append(worker)
        if share is None:
            worker.info = result
            return
        self._deadlines.finished(share.kind, worker.elapsed_s)
        if self._queue.finish(share):  # else another worker was first
            self._watcher.finished(share, worker.elapsed_s)
            yield share, result

    def _replace(self, worker: PoolWorker, error: Exception) -> None:
        """Start another actor for a lost one. WorkerFailedError if that has happened too often."""
        if worker.info is None:
            lost = worker.lost_starts + 1
            if lost >= MAX_LOST_STARTS:
                raise WorkerFailedError(
                    f"{lost} workers in a row were lost while starting; the last: {last_words(None, error)}"
                ) from error
            self._start(lost)
            return
        share = worker.share
        assert share is not None
        if self._queue.is_open(share):
            try:
                self._losses.count(share.name, worker.info, error)
            except WorkerFailedError:
                self._watcher.failed()
                raise
            if not any(other.share is share for other in self._in_flight.values()):
                self._queue.put_back(share)
            self._watcher.requeued()
        self._start_wanted()

    def _attempts(self) -> list[Attempt]:
        return [
            Attempt(worker, share.name, share.kind, worker.elapsed_s, not self._queue.is_open(share))
            for worker in self._in_flight.values()
            if (share := worker.share) is not None
        ]

    def _keep_deadlines(self) -> None:
        """Ask a second worker for what takes too long, and kill workers that give no answer."""
        decisions = self._deadlines.decide(self._attempts(), self._queue.asked_again)
        for worker in decisions.copy:
            assert worker.share is not None
            assert worker.info is not None
            logger.warning(
                "%s: no answer for %s from worker %s; another worker is asked too (execution.unit_timeout)",
                *(worker.share.name, human_duration(worker.elapsed_s), worker.info.where),
            )
            self._queue.ask_again(worker.share)
        for worker in decisions.kill:
            self._kill(worker)
        self._start_wanted()

    def _kill(self, worker: PoolWorker, why: str = "which is killed and replaced") -> None:
        """Kill a worker that gives no answer, and replace it if there is still something to do."""
        assert worker.share is not None
        assert worker.info is not None
        seconds = worker.elapsed_s
        logger.warning(
            "%s: no answer for %s from worker %s, %s",
            *(worker.share.name, human_duration(seconds), worker.info.where, why),
        )
        self._watcher.killed(worker.busy(is_late=True), seconds)
        self._in_flight = {reference: other for reference, other in self._in_flight.items() if other is not worker}
        kill_hung(worker.actor, worker.info)
        self._replace(worker, HungWorkerError(seconds))

    def _end_late_copies(self) -> None:
        """All shares are done: nobody waits for workers that still have one."""
        for worker in [worker for worker in self._in_flight.values() if worker.share]:
            self._kill(worker, "which is not waited for, since another one was first")

    def _check_alive(self, quiet_s: float) -> None:
        """Raise WorkerFailedError if no worker became ready in time. While anybody works, waiting is fine."""
        nobody = not self._idle and all(worker.info is None for worker in self._in_flight.values())
        if nobody and quiet_s > self._settings.start_timeout_s:
            raise WorkerFailedError(
                f"no worker became ready within {self._settings.start_timeout_s:.0f} s; the cluster has "
                f"{ray.cluster_resources()}, of which {ray.available_resources()} are free"
            )


def _failed(what: str, worker: PoolWorker, error: Exception) -> WorkerFailedError:
    log = f"\n{last_words(worker.info, error)}" if worker.info else ""
    return WorkerFailedError(f"{what} failed: {application_error(error)}{log}")
