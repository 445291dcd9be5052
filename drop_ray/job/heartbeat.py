"""The sign of life that a driver leaves in the run's folder: which worker has had which unit since when."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from drop_ray.store import Store

HEARTBEAT = "heartbeat.json"
# Drivers write more often than every 40 s; the rest is for clocks of machines that differ, and for a slow store.
STALE_S = 120.0
# A unit is a straggler if it takes this many times as long as the median of its stage.
STRAGGLER = 3.0
MIN_DONE = 3


@dataclass(frozen=True)
class BusyWorker:
    """since: seconds of the epoch at which the worker was given the unit."""

    unit: str
    node: str
    pid: int
    since: float


@dataclass(frozen=True)
class Heartbeat:
    """time: seconds of the epoch; done: units of this stage; median_s: how long they took, 0 before the first."""

    time: float
    stage: str
    workers_ready: int
    done: int
    total: int
    median_s: float
    busy: tuple[BusyWorker, ...]

    def write(self, store: Store, run_folder: str) -> None:
        store.write_file(f"{run_folder}/{HEARTBEAT}", json.dumps(asdict(self), indent=1).encode())

    def lines(self, now: float) -> Iterator[str]:
        """For people: whether a driver is there, then a line a busy worker, the longest first."""
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
    """None of a run whose driver has not come to any work."""
    try:
        fields = json.loads(store.read_file(f"{run_folder}/{HEARTBEAT}"))
    except FileNotFoundError:
        return None
    return Heartbeat(**{**fields, "busy": tuple(BusyWorker(**worker) for worker in fields["busy"])})


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
