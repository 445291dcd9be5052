"""How far workers are in their shares: each writes a small note to its cluster's key-value store, the driver reads it.

A share can take hours, and a worker answers only at its end. A note is one request of about a millisecond, made every
few seconds at most; nothing depends on it, so that one that fails is left out.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import ray

from drop_ray.job.heartbeat import BusyWorker
from drop_ray.runtime.metrics import ProgressMetric
from drop_ray.runtime.ray_private import get_note, put_note
from drop_ray.text.progress import LOG_INTERVAL_S

logger = logging.getLogger(__name__)

NOTE_INTERVAL_S = 3.0


class UnitProgress:
    """This worker's, told to its log, to the metrics and to the driver."""

    def __init__(self) -> None:
        self._node, self._pid = ray.util.get_node_ip_address(), os.getpid()
        self._metric = ProgressMetric(f"{self._node}:{self._pid}")
        self._share = ""
        self._noted = self._logged = 0.0

    def begin(self, share: str) -> None:
        """A share begins."""
        self._share, self._logged, self._noted = share, time.monotonic(), 0.0
        self._note(None)  # what is there may be of a share of another stage, of the same name

    def part(self, what: str, begin: float = 0.0, end: float = 1.0) -> Callable[[int, int], None]:
        """A callback that takes (done, total) of `what`, which is the part of the share from `begin` to `end`."""

        def tell(done: int, total: int) -> None:
            now, fraction = time.monotonic(), begin + (end - begin) * done / max(total, 1)
            if now - self._noted >= NOTE_INTERVAL_S:
                self._noted = now
                self._note(round(fraction, 4))
            if now - self._logged >= LOG_INTERVAL_S:
                self._logged = now
                self._metric(fraction)
                logger.info("%d of %d %s", done, total, what)

        return tell

    def _note(self, fraction: float | None) -> None:
        put_note(_key(self._node, self._pid), json.dumps([self._share, fraction]).encode())


def with_progress(busy: Sequence[BusyWorker]) -> list[BusyWorker]:
    """The workers with how far each is in its share, where it has said so."""
    return [replace(worker, fraction=_fraction(worker)) for worker in busy]


def _fraction(worker: BusyWorker) -> float | None:
    note = get_note(_key(worker.node, worker.pid))
    if note is None:
        return None
    share, fraction = json.loads(note)
    return fraction if share == worker.unit else None


def _key(node: str, pid: int) -> str:
    return f"progress/{node}/{pid}"
