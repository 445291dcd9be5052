"""The sign of life that a driver leaves in the run's folder: which worker has had which unit, and since when."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from drop_ray.store import Store

HEARTBEAT = "heartbeat.json"
# Drivers write more often than every 40 s. The rest allows for clocks that differ, and for a slow store.
STALE_S = 120.0
# A unit is a straggler if it takes this many times as long as the median of its stage.
STRAGGLER = 3.0
MIN_DONE = 3


@dataclass(frozen=True)
class BusyWorker:
    """A worker that has a unit."""

    unit: str
    """Name of the unit."""
    node: str
    """Address of the worker's node."""
    pid: int
    """Process of the worker."""
    since: float
    """When the worker was given the unit, in seconds since 1970."""


@dataclass(frozen=True)
class Heartbeat:
    """The state of a running stage."""

    time: float
    """When it was written, in seconds since 1970."""
    stage: str
    """The stage that runs."""
    workers_ready: int
    """Workers that have started."""
    done: int
    """Units of the stage that are done."""
    total: int
    """Units of the stage."""
    median_s: float
    """Median seconds that they took; 0 before the first is done."""
    busy: tuple[BusyWorker, ...]
    """Workers that have a unit."""

    def write(self, store: Store, run_folder: str) -> None:
        store.write_file(f"{run_folder}/{HEARTBEAT}", json.dumps(asdict(self), indent=1).encode())

    def lines(self, now: float) -> Iterator[str]:
        """Lines for people: whether a driver is there, then one for each busy worker, the longest busy first."""
        age = now - self.time
        if age > STALE_S:
            yield f"no driver is running: the last sign of life is {_duration(age)} old"
            return
        yield f"{self.stage}: {self.done} of {self.total} units done, {self.workers_ready} workers ready"
        for worker in sorted(self.busy, key=lambda worker: worker.since):
            elapsed = now - worker.since
            line = f"  {worker.unit}: for {_duration(elapsed)} on worker {worker.pid} of {worker.node}"
            is_slow = self.done >= MIN_DONE and elapsed > STRAGGLER * self.median_s
            yield f"{line}  STRAGGLER (the median is {_duration(self.median_s)})" if is_slow else line


def read_heartbeat(store: Store, run_folder: str) -> Heartbeat | None:
    """The last sign of life of a run; None if its driver has not come to any work."""
    try:
        fields = json.loads(store.read_file(f"{run_folder}/{HEARTBEAT}"))
    except FileNotFoundError:
        return None
    return Heartbeat(**{**fields, "busy": tuple(BusyWorker(**worker) for worker in fields["busy"])})


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
