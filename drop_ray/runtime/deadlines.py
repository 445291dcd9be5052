"""When a share takes too long, and what is done about it: times go in, decisions come out, and the pool acts on them.

A worker that has had a share for longer than the timeout of its kind is late: another worker is asked for it too, and
the first commit wins. A worker that is late and no longer needed, because the other one has answered, is killed. So is
one that has not answered after `PATIENCE` timeouts, whatever the other one does: its share then counts as one that has
lost a worker, so that one which hangs everywhere ends the run.
"""

import statistics
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from drop_ray.runtime.pool_worker import PoolWorker

# A timeout found by itself is this many medians of finished shares of the kind: shares of a kind do the same on other
# data or another variant, so that one which takes ten times as long does not work, or works on a broken node.
MULTIPLE = 10.0
# The first share on a worker also loads a model, from a cold cache: no median of short shares may be too strict.
FLOOR_S = 900.0
MIN_FINISHED = 3
PATIENCE = 2.0
# How often a timeout is looked at: a tenth of it, but neither more often than this, nor less often than a heartbeat.
SHORTEST_PAUSE_S = 0.2


@dataclass(frozen=True)
class Attempt:
    """A worker that has a share."""

    worker: PoolWorker
    """The worker."""
    share: str
    """Name of the share."""
    kind: str
    """Shares of one kind take about as long as each other."""
    elapsed_s: float
    """Seconds since it was given the share."""
    is_done: bool
    """Whether another worker has finished the share."""


@dataclass(frozen=True)
class Decisions:
    """What is to be done now."""

    copy: tuple[PoolWorker, ...] = ()
    """The workers for whose shares another one is to be asked, too."""
    kill: tuple[PoolWorker, ...] = ()
    """The workers that are to be killed."""


class Deadlines:
    """Learns how long shares take. `setting` is `execution.unit_timeout`: seconds, or `auto`."""

    def __init__(self, setting: float | Literal["auto"]):
        self._setting = setting
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def finished(self, kind: str, seconds: float) -> None:
        self._seconds[kind].append(seconds)

    def timeout_s(self, kind: str) -> float | None:
        """Seconds after which a worker is late; None while too few shares of the kind were finished to know."""
        if self._setting != "auto":
            return self._setting
        seconds = self._seconds[kind]
        return max(FLOOR_S, MULTIPLE * statistics.median(seconds)) if len(seconds) >= MIN_FINISHED else None

    def pause_s(self, longest_s: float) -> float:
        """Seconds until timeouts are to be looked at again, at most `longest_s`."""
        return longest_s if self._setting == "auto" else min(longest_s, max(SHORTEST_PAUSE_S, self._setting / 10))

    def is_late(self, attempt: Attempt) -> bool:
        timeout = self.timeout_s(attempt.kind)
        return timeout is not None and attempt.elapsed_s > timeout

    def decide(self, attempts: Sequence[Attempt], asked: Collection[str]) -> Decisions:
        """attempts: of all busy workers; asked: names of the shares that another worker was asked for already."""
        late = [attempt for attempt in attempts if self.is_late(attempt)]
        kill = [attempt for attempt in late if attempt.is_done or self._is_hopeless(attempt)]
        working = [attempt.share for attempt in attempts if attempt not in kill]
        copy = [
            attempt.worker
            for attempt in late
            if attempt not in kill and working.count(attempt.share) == 1 and attempt.share not in asked
        ]
        return Decisions(tuple(copy), tuple(attempt.worker for attempt in kill))

    def _is_hopeless(self, attempt: Attempt) -> bool:
        timeout = self.timeout_s(attempt.kind)
        return timeout is not None and attempt.elapsed_s > PATIENCE * timeout
