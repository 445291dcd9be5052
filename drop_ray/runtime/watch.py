"""Reports on a running stage: to the progress line, to the metrics and to `drop-ray status`."""

import statistics
import time
from collections.abc import Sequence
from types import TracebackType

from drop_ray.job.heartbeat import BusyWorker, Heartbeat
from drop_ray.job.job import Job
from drop_ray.job.units import Share
from drop_ray.runtime.metrics import StageMetrics
from drop_ray.runtime.pool import Watcher
from drop_ray.text.progress import Progress

# Often enough for a person who watches, and rare enough for a store on S3.
WRITE_INTERVAL_S = 10.0


class StageWatch(Watcher):
    """Watches one stage, around `Pool.run`.

    `name` is the stage's name in metrics. `title` and `noun` are for the progress line.
    """

    def __init__(self, job: Job, name: str, title: str, noun: str, total: int):
        self._job, self._name, self._total = job, name, total
        self._progress = Progress(title, total, noun)
        self._metrics = StageMetrics(job.config.name, name)
        self._seconds: list[float] = []
        self._ready = 0
        self._written = -WRITE_INTERVAL_S

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
        if time.monotonic() - self._written >= WRITE_INTERVAL_S:
            self._write(busy)

    def quiet(self, num_busy: int) -> None:
        self._progress.heartbeat(num_busy)

    def finished(self, share: Share, seconds: float) -> None:
        self._seconds.append(seconds)
        self._progress.advance(share.name)
        self._metrics.units_done.inc()
        self._metrics.unit_seconds.observe(seconds)
        if share.tokens:
            self._metrics.tokens_scored.inc(share.tokens)

    def requeued(self) -> None:
        self._metrics.units_requeued.inc()

    def failed(self) -> None:
        self._metrics.units_failed.inc()

    def _show(self, busy: Sequence[BusyWorker]) -> None:
        self._metrics.workers_ready.set(self._ready)
        self._metrics.workers_busy.set(len(busy))

    def _write(self, busy: Sequence[BusyWorker]) -> None:
        self._written = time.monotonic()
        median = statistics.median(self._seconds) if self._seconds else 0.0
        heartbeat = Heartbeat(
            time.time(), self._name, self._ready, len(self._seconds), self._total, median, tuple(busy)
        )
        heartbeat.write(self._job.store, self._job.run_folder)
