"""The sign of life that a driver leaves in the run's folder: which worker has had which share since when."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from drop_ray.store import Store
from drop_ray.text.units import human_duration

HEARTBEAT = "heartbeat.json"
# Drivers write more often than every 40 s; the rest allows for differing clocks and a slow store.
STALE_S = 120.0
# A share is a straggler if it takes this many times as long as the median of its stage.
STRAGGLER = 3.0
MIN_DONE = 3


@dataclass(frozen=True)
class BusyWorker:
    """A worker that has a share."""

    unit: str
    """Name of its share: the unit, or the units that are done together."""
    node: str
    """Address of the worker's node."""
    pid: int
    """The worker's process on that node."""
    since: float
    """When the worker was given the share, in seconds since 1970."""


@dataclass(frozen=True)
class Heartbeat:
    """The state of a stage at one time."""

    time: float
    """When it was written, in seconds since 1970."""
    stage: str
    """Name of the stage."""
    workers_ready: int
    """Number of workers that have started, busy or not."""
    done: int
    """Number of shares of this stage that this driver has seen finished."""
    total: int
    """Number of shares of this stage that this driver found to do."""
    median_s: float
    """Median of the seconds that the finished shares took; 0 before the first."""
    busy: tuple[BusyWorker, ...]
    """Workers that have a share now."""

    def write(self, store: Store, run_folder: str) -> None:
        store.write_file(f"{run_folder}/{HEARTBEAT}", json.dumps(asdict(self), indent=1).encode())

    def lines(self, now: float) -> Iterator[str]:
        """Lines for people: whether a driver is running, then one line per busy worker, the longest busy first."""
        age = now - self.time
        if age > STALE_S:
            yield f"no driver is running: the last sign of life is {human_duration(age)} old"
            return
        yield f"{self.stage}: {self.done} of {self.total} units done, {self.workers_ready} workers ready"
        for worker in sorted(self.busy, key=lambda worker: worker.since):
            elapsed = now - worker.since
            line = f"  {worker.unit}: for {human_duration(elapsed)} on worker {worker.pid} of {worker.node}"
            is_slow = self.done >= MIN_DONE and elapsed > STRAGGLER * self.median_s
            yield f"{line}  STRAGGLER (the median is {human_duration(self.median_s)})" if is_slow else line


def read_heartbeat(store: Store, run_folder: str) -> Heartbeat | None:
    """The last heartbeat of a run; None if its driver has not come to any work."""
    try:
        fields = json.loads(store.read_file(f"{run_folder}/{HEARTBEAT}"))
    except FileNotFoundError:
        return None
    return Heartbeat(**{**fields, "busy": tuple(BusyWorker(**worker) for worker in fields["busy"])})
