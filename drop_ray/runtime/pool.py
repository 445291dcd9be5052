"""An elastic pool of actors that survives the loss of workers and nodes.

Items go only to actors that have finished starting. A lost actor is replaced and its item requeued, a bounded number
of times; a replacement that cannot be scheduled, because the cluster shrank, never becomes ready, so that the pool
goes on smaller. An error of the application itself, also in an actor's constructor, stops the run at once.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from drop_ray.errors import DropRayError, WorkerFailedError
from drop_ray.job.heartbeat import BusyWorker
from drop_ray.runtime.logs import WorkerInfo, application_error, last_words

logger = logging.getLogger(__name__)

LOST_WORKER = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)
# How often a worker and its replacements are lost while starting before the pool gives up: a broken node, not bad luck.
# Counted for each worker by itself, since a node that vanishes takes all of its starting workers with it.
MAX_LOST_STARTS = 3
HEARTBEAT_S = 30.0


@dataclass(frozen=True)
class Item:
    """A unit of work: `name` for messages, `affinity` equal for items that one actor does cheaply in a row; `tokens`
    that it scores, for the metrics."""

    name: str
    payload: Any
    affinity: Any = None
    tokens: int = 0


class Watcher:
    """What a pool tells while it runs; this one, nobody."""

    def working(self, busy: Sequence[BusyWorker], num_ready: int) -> None:
        """Whenever something changed, and now and then; num_ready: workers that have started, the busy among them."""

    def quiet(self, num_busy: int) -> None:
        """Nothing finished for a while."""

    def finished(self, item: Item, seconds: float) -> None:
        """seconds: since the item was given to the worker that did it."""

    def requeued(self) -> None:
        """A worker was lost, and its item goes to another one."""

    def failed(self) -> None:
        """An item failed, and so does the run."""


NOBODY = Watcher()


@dataclass(frozen=True)
class PoolSettings:
    num_actors: int
    max_attempts: int
    start_timeout_s: float


@dataclass
class _Worker:
    """An actor with what it is doing: `item` None while it starts or waits; since: when it was given its item, in
    seconds of the epoch; lost_starts: workers in a row that were lost while starting, and that it stands for."""

    actor: Any
    info: WorkerInfo | None = None
    item: Item | None = None
    affinity: Any = None
    since: float = 0.0
    lost_starts: int = 0


class Pool:
    """Actors that are kept between calls of `run`, so that each loads its libraries and model once.

    make_actor: makes an actor with `start() -> WorkerInfo` (its loading) and `run(payload)`, not restarted by Ray.
    """

    def __init__(self, make_actor: Callable[[], Any], settings: PoolSettings):
        self._make_actor = make_actor
        self._settings = settings
        self._queue: deque[Item] = deque()
        self._attempts: dict[str, int] = {}
        self._in_flight: dict[Any, _Worker] = {}
        self._idle: list[_Worker] = []
        self._watcher = NOBODY

    def run(self, items: Sequence[Item], watcher: Watcher = NOBODY) -> Iterator[tuple[Item, Any]]:
        """Yield (item, result of `actor.run(item.payload)`) as they finish.

        Raises WorkerFailedError naming the item and the worker's log, or the worker's own DropRayError; both close the
        pool.
        """
        self._queue, self._attempts, self._watcher = deque(items), {}, watcher
        while len(self._idle) + len(self._in_flight) < min(self._settings.num_actors, len(items)):
            self._start()
        left, quiet_since = len(items), time.monotonic()
        try:
            while left:
                self._hand_out()
                watcher.working(*self._state())
                done, _ = ray.wait(list(self._in_flight), num_returns=1, timeout=HEARTBEAT_S)
                if not done:
                    self._check_alive(time.monotonic() - quiet_since)
                    watcher.quiet(len(self._state()[0]))
                    continue
                quiet_since = time.monotonic()
                finished = self._collect(self._in_flight.pop(done[0]), done[0])
                if finished is not None:
                    left -= 1
                    yield finished
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop every actor, at once."""
        for worker in [*self._idle, *self._in_flight.values()]:
            ray.kill(worker.actor)
        self._idle, self._in_flight = [], {}

    def _start(self, lost_starts: int = 0) -> None:
        worker = _Worker(self._make_actor(), lost_starts=lost_starts)
        self._in_flight[worker.actor.start.remote()] = worker

    def _state(self) -> tuple[list[BusyWorker], int]:
        """The workers that have an item, and how many have started."""
        workers = [*self._idle, *self._in_flight.values()]
        busy = [
            BusyWorker(worker.item.name, worker.info.node, worker.info.pid, worker.since)
            for worker in workers
            if worker.item and worker.info
        ]
        return busy, sum(worker.info is not None for worker in workers)

    def _hand_out(self) -> None:
        """Give every idle actor an item: one whose model it has, else one whose model nobody has, else the next."""
        while self._idle and self._queue:
            held = {worker.affinity for worker in [*self._idle, *self._in_flight.values()]}
            pairs = [(worker, item) for worker in self._idle for item in self._queue]
            own = (pair for pair in pairs if pair[0].affinity == pair[1].affinity)
            free = (pair for pair in pairs if pair[1].affinity not in held)
            worker, item = next(chain(own, free, pairs))
            self._idle.remove(worker)
            self._queue.remove(item)
            worker.item, worker.affinity, worker.since = item, item.affinity, time.time()
            self._in_flight[worker.actor.run.remote(item.payload)] = worker

    def _collect(self, worker: _Worker, reference: Any) -> tuple[Item, Any] | None:
        """Take what a worker delivered: readiness, a result, its loss, or an error of the application."""
        item = worker.item
        try:
            result = ray.get(reference)
        except LOST_WORKER as error:
            if isinstance(error, RayActorError) and error.actor_init_failed:
                raise _failed("a starting worker", worker, error) from error
            self._replace(worker, error)
            return None
        except RayTaskError as error:
            self._watcher.failed()
            if isinstance(error.cause, DropRayError):
                raise error.cause from error
            raise _failed(item.name if item else "a starting worker", worker, error) from error
        except RayError as error:  # such as an environment that cannot be set up: it would fail again
            raise _failed(item.name if item else "a starting worker", worker, error) from error
        worker.item = None
        self._idle.append(worker)
        if item is None:
            worker.info = result
            return None
        self._watcher.finished(item, time.time() - worker.since)
        return item, result

    def _replace(self, worker: _Worker, error: Exception) -> None:
        """Start another actor for a lost one; WorkerFailedError if that has happened too often."""
        ray.kill(worker.actor)
        if worker.info is None:
            lost = worker.lost_starts + 1
            if lost >= MAX_LOST_STARTS:
                raise WorkerFailedError(
                    f"{lost} workers in a row were lost while starting; the last: {last_words(None, error)}"
                ) from error
            self._start(lost)
            return
        assert worker.item is not None
        self._requeue(worker.item, worker, error)
        self._start()

    def _requeue(self, item: Item, worker: _Worker, error: Exception) -> None:
        attempt = self._attempts[item.name] = self._attempts.get(item.name, 0) + 1
        allowed = self._settings.max_attempts
        logger.warning("%s: worker lost, attempt %d of %d: %s", item.name, attempt, allowed, type(error).__name__)
        if attempt >= allowed:
            self._watcher.failed()
            raise WorkerFailedError(
                f"{item.name}: its worker was lost {attempt} times; the last: {last_words(worker.info, error)}"
            ) from error
        self._queue.appendleft(item)
        self._watcher.requeued()

    def _check_alive(self, quiet_s: float) -> None:
        """Waiting is fine while anybody works; a pool in which nobody ever becomes ready must not wait for ever."""
        nobody = not self._idle and all(worker.info is None for worker in self._in_flight.values())
        if nobody and quiet_s > self._settings.start_timeout_s:
            raise WorkerFailedError(
                f"no worker became ready within {self._settings.start_timeout_s:.0f} s; the cluster has "
                f"{ray.cluster_resources()}, of which {ray.available_resources()} are free"
            )


def _failed(what: str, worker: _Worker, error: Exception) -> WorkerFailedError:
    log = f"\n{last_words(worker.info, error)}" if worker.info else ""
    return WorkerFailedError(f"{what} failed: {application_error(error)}{log}")
