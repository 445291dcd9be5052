"""Reports on a running stage: to the progress line, to the metrics and to `drop-ray status`."""

import statistics
import time
from collections.abc import Sequence
from types import TracebackType

from drop_ray.job.drivers import Presence
from drop_ray.job.heartbeat import BusyWorker, Heartbeat
from drop_ray.job.units import Share
from drop_ray.runtime.metrics import StageMetrics
from drop_ray.runtime.watcher import Watcher
from drop_ray.text.progress import Progress
from drop_ray.text.units import human_duration


class StageWatch(Watcher):
    """Watches one stage, around `Pool.run`.

    `run` and `name` are the run's and the stage's name in metrics. `title` and `noun` are for the progress line.
    """

    def __init__(self, presence: Presence, run: str, name: str, title: str, noun: str, total: int):
        self._presence, self._name, self._total = presence, name, total
        self._progress = Progress(title, total, noun)
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
        if self._presence.is_due or not self._began:
            self._began = True
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

    def killed(self, worker: BusyWorker, seconds: float) -> None:
        self._killed.append(
            f"{worker.unit}: worker {worker.pid} of {worker.node} was killed after {human_duration(seconds)} without "
            "an answer"
        )

    def failed(self) -> None:
        self._metrics.units_failed.inc()

    def _show(self, busy: Sequence[BusyWorker]) -> None:
        self._metrics.workers_ready.set(self._ready)
        self._metrics.workers_busy.set(len(busy))

    def _write(self, busy: Sequence[BusyWorker]) -> None:
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
            )
        )
