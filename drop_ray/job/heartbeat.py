"""The sign of life that each driver of a run leaves in its folder: who does what since when, and what is left."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from drop_ray.errors import UserError
from drop_ray.reading.json_text import parse_json_object
from drop_ray.text.time_left import TimeLeft
from drop_ray.text.units import human_duration

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
    late: bool
    """Whether that is longer ago than `execution.unit_timeout`, so that another worker is asked for the share too."""
    fraction: float | None = None
    """How much of the share is done, from 0 to 1, as its worker last said; None if it says nothing."""


@dataclass(frozen=True)
class Driver:
    """A process that hands out a run's shares."""

    host: str
    """Name of its machine."""
    pid: int
    """The process on that machine."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Heartbeat:
    """What a driver is doing at one time."""

    driver: Driver
    """The driver."""
    time: float
    """When it was written, in seconds since 1970."""
    stage: str
    """Name of the stage; empty before the first."""
    workers_ready: int = 0
    """Number of workers that have started, busy or not."""
    done: int = 0
    """Number of shares of this stage that this driver has seen finished."""
    total: int = 0
    """Number of shares of this stage that this driver found to do."""
    median_s: float = 0.0
    """Median of the seconds that the finished shares took; 0 before the first."""
    busy: tuple[BusyWorker, ...] = ()
    """Workers that have a share now."""
    killed: tuple[str, ...] = ()
    """A line for each worker of this stage that was killed because it gave no answer."""
    left_s: tuple[float, float | None] | None = None
    """Seconds that the stage takes from then on, at least and at most (None if unknown); None before any evidence."""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @staticmethod
    def from_json(data: bytes, where: str) -> "Heartbeat":
        """Parse what `to_json` wrote. UserError, which begins with `where`, for anything else."""
        fields = parse_json_object(data, where)
        try:
            return Heartbeat(
                driver=Driver(*_typed(fields["driver"], host=str, pid=int)),
                busy=tuple(
                    replace(
                        BusyWorker(*_typed(worker, unit=str, node=str, pid=int, since=float, late=bool)),
                        fraction=None if worker["fraction"] is None else _checked(worker["fraction"], float),
                    )
                    for worker in _list(fields["busy"])
                ),
                left_s=None if fields["left_s"] is None else _range(fields["left_s"]),
                killed=tuple(_checked(line, str) for line in _list(fields["killed"])),
                **{
                    name: _checked(fields[name], kind)
                    for name, kind in {
                        "time": float,
                        "stage": str,
                        "workers_ready": int,
                        "done": int,
                        "total": int,
                        "median_s": float,
                    }.items()
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{where}: is not a driver's sign of life: {error!r}") from error

    def is_stale(self, now: float) -> bool:
        """Whether it is so old that its driver has died."""
        return now - self.time > STALE_S

    def age(self, now: float) -> str:
        """How old it is, for people. The clocks of two machines differ."""
        return human_duration(max(0.0, now - self.time))

    def left(self, now: float) -> TimeLeft | None:
        """How long its stage takes from now on; None while nothing is known of it."""
        if self.left_s is None:
            return None
        passed = max(0.0, now - self.time)
        low, high = self.left_s
        return TimeLeft(max(0.0, low - passed), math.inf if high is None else max(0.0, high - passed))

    def lines(self, now: float) -> Iterator[str]:
        """Lines for people: the driver, what was killed, then one line per busy worker, the longest busy first."""
        if self.is_stale(now):
            yield f"the driver, {self.driver}, is gone: its last sign of life is {self.age(now)} old"
            return
        if not self.stage:
            yield f"{self.driver}: has not come to any work"
            return
        left = f", {self.left(now)}" if self.left_s else ""
        yield (
            f"{self.stage}: {self.done} of {self.total} units done{left}, {self.workers_ready} workers ready "
            f"(driver: {self.driver})"
        )
        yield from (f"  {line}" for line in self.killed)
        for worker in sorted(self.busy, key=lambda worker: worker.since):
            elapsed = now - worker.since
            done = "" if worker.fraction is None else f"{worker.fraction:.0%} done, "
            line = f"  {worker.unit}: {done}for {human_duration(elapsed)} on worker {worker.pid} of {worker.node}"
            if worker.late:
                line += "  LATE (no answer within execution.unit_timeout: another worker is asked too)"
            elif self.done >= MIN_DONE and elapsed > STRAGGLER * self.median_s:
                line += f"  STRAGGLER (the median is {human_duration(self.median_s)})"
            yield line


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _range(value: Any) -> tuple[float, float | None]:
    low, high = _list(value)
    return _checked(low, float), None if high is None else _checked(high, float)


def _typed(values: Any, **kinds: type) -> list[Any]:
    """The values of an object, in the order of the fields asked for."""
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} is no object")
    return [_checked(values[name], kind) for name, kind in kinds.items()]


def _checked(value: Any, kind: type) -> Any:
    if not (isinstance(value, kind) or (kind is float and isinstance(value, int))):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
