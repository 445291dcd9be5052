"""An elastic pool of actors that survives the loss of workers and nodes.

Shares go only to actors that have finished starting. A lost actor is replaced and its share requeued, a bounded number
of times. If the cluster shrank, a replacement cannot be scheduled and never becomes ready, so that the pool goes on
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
from drop_ray.job.units import Share
from drop_ray.runtime.logs import WorkerInfo, application_error, last_words

logger = logging.getLogger(__name__)

LOST_WORKER = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)
# If a worker and its replacements are lost so often in a row while starting, a node is broken, and the pool gives up.
# Each worker counts by itself, since a node that vanishes takes all of its starting workers with it.
MAX_LOST_STARTS = 3
HEARTBEAT_S = 30.0


class Watcher:
    """Is told what happens in a pool while it runs. This one does nothing."""

    def working(self, busy: Sequence[BusyWorker], num_ready: int) -> None:
        """Something changed, or some time has passed.

        `num_ready` counts the workers that have started, also busy ones.
        """

    def quiet(self, num_busy: int) -> None:
        """Nothing finished for a while."""

    def finished(self, share: Share, seconds: float) -> None:
        """A share was finished, `seconds` after it was given to the worker that did it."""

    def requeued(self) -> None:
        """A worker was lost, and its share goes to another one."""

    def failed(self) -> None:
        """A share failed, and so does the run."""


NOBODY = Watcher()


@dataclass(frozen=True)
class PoolSettings:
    """How large a pool is, and when it gives up."""

    num_actors: int
    """Number of actors that work at the same time, if the cluster has room for them."""
    max_attempts: int
    """Number of workers that one share may lose; with the last of them the run fails."""
    start_timeout_s: float
    """Seconds to wait for a first worker."""


@dataclass
class _Worker:
    """An actor, and what it is doing."""

    actor: Any
    """Handle of the Ray actor."""
    info: WorkerInfo | None = None
    """Where it runs; None until it has started."""
    share: Share | None = None
    """What it is doing; None while it starts or waits."""
    model_key: object = None
    """Stage and model of its last share: what it still holds."""
    since: float = 0.0
    """When it was given its share, in seconds since 1970."""
    lost_starts: int = 0
    """Number of workers in its place that were lost in a row while starting."""


class Pool:
    """Actors that are kept between calls of `run`, so that each loads its libraries and model once.

    `make_actor` makes an actor with `start() -> WorkerInfo`, which loads, and `run(share)`. Ray must not restart it.
    """

    def __init__(self, make_actor: Callable[[], Any], settings: PoolSettings):
        self._make_actor = make_actor
        self._settings = settings
        self._queue: deque[Share] = deque()
        self._title = ""
        self._attempts: dict[str, int] = {}
        self._in_flight: dict[Any, _Worker] = {}
        self._idle: list[_Worker] = []
        self._watcher = NOBODY

    def run(self, title: str, shares: Sequence[Share], watcher: Watcher = NOBODY) -> Iterator[tuple[Share, Any]]:
        """Yield (share, result of `actor.run(share)`) as they finish.

        An actor preferably gets shares whose `model_key` is that of its last one, if that was also in a call with this
        `title`. Raises WorkerFailedError naming the share and the worker's log, or the worker's own DropRayError. Both
        close the pool.
        """
        self._queue, self._attempts, self._watcher, self._title = deque(shares), {}, watcher, title
        while len(self._idle) + len(self._in_flight) < min(self._settings.num_actors, len(shares)):
            self._start()
        left, quiet_since = len(shares), time.monotonic()
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
        """The workers that have a share, and how many have started."""
        workers = [*self._idle, *self._in_flight.values()]
        busy = [
            BusyWorker(worker.share.name, worker.info.node, worker.info.pid, worker.since)
            for worker in workers
            if worker.share and worker.info
        ]
        return busy, sum(worker.info is not None for worker in workers)

    def _hand_out(self) -> None:
        """Give every idle actor a share: one whose model it has, else one whose model nobody has, else the next."""
        while self._idle and self._queue:
            held = {worker.model_key for worker in [*self._idle, *self._in_flight.values()]}
            own = (pair for pair in product(self._idle, self._queue) if pair[0].model_key == self._key(pair[1]))
            free = (pair for pair in product(self._idle, self._queue) if self._key(pair[1]) not in held)
            worker, share = next(chain(own, free, product(self._idle, self._queue)))
            self._idle.remove(worker)
            self._queue.remove(share)
            worker.share, worker.model_key, worker.since = share, self._key(share), time.time()
            self._in_flight[worker.actor.run.remote(share)] = worker

    def _key(self, share: Share) -> object:
        return self._title, share.model_key

    def _collect(self, worker: _Worker, reference: Any) -> tuple[Share, Any] | None:
        """Take what a worker delivered: readiness, a result, its loss, or an error of the application."""
        share = worker.share
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
            raise _failed(share.name if share else "a starting worker", worker, error) from error
        except RayError as error:  # such as an environment that cannot be set up: it would fail again
            raise _failed(share.name if share else "a starting worker", worker, error) from error
        worker.share = None
        self._idle.append(worker)
        if share is None:
            worker.info = result
            return None
        self._watcher.finished(share, time.time() - worker.since)
        return share, result

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
        assert worker.share is not None
        self._requeue(worker.share, worker, error)
        self._start()

    def _requeue(self, share: Share, worker: _Worker, error: Exception) -> None:
        attempt = self._attempts[share.name] = self._attempts.get(share.name, 0) + 1
        allowed = self._settings.max_attempts
        logger.warning("%s: worker lost, attempt %d of %d: %s", share.name, attempt, allowed, type(error).__name__)
        if attempt >= allowed:
            self._watcher.failed()
            raise WorkerFailedError(
                f"{share.name}: its worker was lost {attempt} times; the last: {last_words(worker.info, error)}"
            ) from error
        self._queue.appendleft(share)
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
