"""An elastic pool of actors that survives the loss of workers and nodes.

Units go only to actors that have finished starting. A lost actor is replaced and its unit requeued, a bounded number of
times. If the cluster shrank, a replacement cannot be scheduled and never becomes ready, so that the pool goes on
smaller. An error of the application itself, also in an actor's constructor, stops the run at once.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
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
# If a worker and its replacements are lost so often in a row while starting, a node is broken, and the pool gives up.
# Each worker counts by itself, since a node that vanishes takes all of its starting workers with it.
MAX_LOST_STARTS = 3
HEARTBEAT_S = 30.0


@dataclass(frozen=True)
class Item:
    """A unit as the pool hands it out."""

    name: str
    """Name of the unit, for messages."""
    payload: Any
    """What the actor is given."""
    affinity: Any = None
    """Equal for units that one actor does cheaply in a row, such as those on one model."""
    tokens: int = 0
    """Tokens that it scores, for the metrics."""


class Watcher:
    """Is told what happens in a pool while it runs. This one does nothing with it."""

    def working(self, busy: Sequence[BusyWorker], num_ready: int) -> None:
        """Something changed, or some time has passed.

        `num_ready` counts the workers that have started, also busy ones.
        """

    def quiet(self, num_busy: int) -> None:
        """Nothing finished for a while."""

    def finished(self, item: Item, seconds: float) -> None:
        """A unit was finished, `seconds` after it was given to the worker that did it."""

    def requeued(self) -> None:
        """A worker was lost, and its unit goes to another one."""

    def failed(self) -> None:
        """A unit failed, and so does the run."""


NOBODY = Watcher()


@dataclass(frozen=True)
class PoolSettings:
    """How large a pool is, and when it gives up."""

    num_actors: int
    """Actors that work at the same time, if the cluster has room for them."""
    max_attempts: int
    """After how many lost workers of one unit the run fails."""
    start_timeout_s: float
    """Seconds to wait for a first worker."""


@dataclass
class _Worker:
    """An actor, and what it is doing."""

    actor: Any
    """Handle of the Ray actor."""
    info: WorkerInfo | None = None
    """Where it runs; None until it has started."""
    item: Item | None = None
    """What it is doing; None while it starts or waits."""
    affinity: Any = None
    """Affinity of its last unit."""
    since: float = 0.0
    """When it was given its unit, in seconds since 1970."""
    lost_starts: int = 0
    """How many workers in its place were lost in a row while starting."""


class Pool:
    """Actors that are kept between calls of `run`, so that each loads its libraries and model once.

    `make_actor` makes an actor with `start() -> WorkerInfo`, which loads, and `run(payload)`. Ray must not restart it.
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

        Raises WorkerFailedError naming the unit and the worker's log, or the worker's own DropRayError. Both close the
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
        """The workers that have a unit, and how many have started."""
        workers = [*self._idle, *self._in_flight.values()]
        busy = [
            BusyWorker(worker.item.name, worker.info.node, worker.info.pid, worker.since)
            for worker in workers
            if worker.item and worker.info
        ]
        return busy, sum(worker.info is not None for worker in workers)

    def _hand_out(self) -> None:
        """Give every idle actor a unit: one whose model it has, else one whose model nobody has, else the next."""
        while self._idle and self._queue:
            held = {worker.affinity for worker in [*self._idle, *self._in_flight.values()]}
            own = (pair for pair in product(self._idle, self._queue) if pair[0].affinity == pair[1].affinity)
            free = (pair for pair in product(self._idle, self._queue) if pair[1].affinity not in held)
            worker, item = next(chain(own, free, product(self._idle, self._queue)))
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
        """Start another actor for a lost one. WorkerFailedError if that has happened too often."""
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
        """Raise WorkerFailedError if no worker became ready in time. While anybody works, waiting is fine."""
        nobody = not self._idle and all(worker.info is None for worker in self._in_flight.values())
        if nobody and quiet_s > self._settings.start_timeout_s:
            raise WorkerFailedError(
                f"no worker became ready within {self._settings.start_timeout_s:.0f} s; the cluster has "
                f"{ray.cluster_resources()}, of which {ray.available_resources()} are free"
            )


def _failed(what: str, worker: _Worker, error: Exception) -> WorkerFailedError:
    log = f"\n{last_words(worker.info, error)}" if worker.info else ""
    return WorkerFailedError(f"{what} failed: {application_error(error)}{log}")
