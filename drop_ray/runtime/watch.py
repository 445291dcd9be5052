"""Reports on a running stage: to the progress line, to the metrics and to `drop-ray status`."""

import math
import statistics
import time
from collections.abc import Sequence
from types import TracebackType

from drop_ray.job.drivers import Presence
from drop_ray.job.heartbeat import BusyWorker, Heartbeat
from drop_ray.job.time_left import StageTime, UnderWay
from drop_ray.job.units import Share
from drop_ray.runtime.metrics import StageMetrics
from drop_ray.runtime.unit_progress import NOTE_INTERVAL_S, with_progress
from drop_ray.runtime.watcher import Watcher
from drop_ray.text.progress import Progress
from drop_ray.text.time_left import TimeLeft
from drop_ray.text.units import human_duration


class StageWatch(Watcher):
    """Watches one stage, around `Pool.run`.

    `run` and `name` are the run's and the stage's name in metrics. `title` and `noun` are for the progress line.
    """

    def __init__(self, presence: Presence, run: str, name: str, title: str, noun: str, shares: Sequence[Share]):
        self._presence, self._name, self._total = presence, name, len(shares)
        self._progress = Progress(title, len(shares), noun)
        self._time = StageTime(shares)
        self._busy: list[BusyWorker] = []
        self._asked = -NOTE_INTERVAL_S
        self._metrics = StageMetrics(run, name)
        self._seconds: list[float] = []
        self._killed: list[str] = []
        self._ready = 0
        self._began = False

    def __enter__(self) -> "StageWatch":
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)
        self._show(())
        if error is None:
            self._write(())

    def working(self, busy: Sequence[BusyWorker], num_ready: int) -> None:
        self._ready = num_ready
        self._show(busy)
        if time.monotonic() - self._asked >= NOTE_INTERVAL_S:
            self._asked = time.monotonic()
            self._busy = with_progress(busy)
            fractions = [worker.fraction for worker in self._busy if worker.fraction is not None]
            self._progress.under_way(fractions, len(busy), self._left())
        if self._presence.is_due or not self._began:
            self._began = True
            self._write(with_progress(busy))

    def finished(self, share: Share, seconds: float) -> None:
        self._seconds.append(seconds)
        self._time.finished(share.name, seconds)
        self._busy = [worker for worker in self._busy if worker.unit != share.name]
        self._progress.finished(share.name, self._left())
        self._metrics.unit_is_done(seconds, share.tokens)

    def found(self, share: Share) -> None:
        self._time.found(share.name)
        self._progress.finished(share.name, self._left())

    def requeued(self) -> None:
        self._metrics.units_requeued.inc()

    def killed(self, worker: BusyWorker, seconds: float) -> None:
        self._killed.append(
            f"{worker.unit}: worker {worker.pid} of {worker.node} was killed after {human_duration(seconds)} without "
            "an answer"
        )

    def failed(self) -> None:
        self._metrics.units_failed.inc()

    def _left(self) -> TimeLeft | None:
        """How long the stage still takes, by what the workers said last."""
        now = time.time()
        known = [UnderWay(worker.unit, now - worker.since, worker.fraction) for worker in self._busy]
        return self._time.left(known, max(self._ready, len(known)))

    def _show(self, busy: Sequence[BusyWorker]) -> None:
        self._metrics.workers_ready.set(self._ready)
        self._metrics.workers_busy.set(len(busy))

    def _write(self, busy: Sequence[BusyWorker]) -> None:
        left = self._left() if busy else None
        median = statistics.median(self._seconds) if self._seconds else 0.0
        self._presence.write(
            Heartbeat(
                driver=self._presence.driver,
                time=time.time(),
                stage=self._name,
                workers_ready=self._ready,
                done=len(self._seconds),
                total=self._total,
                median_s=median,
                busy=tuple(busy),
                killed=tuple(self._killed),
                left_s=left and (left.low, None if math.isinf(left.high) else left.high),
            )
        )
