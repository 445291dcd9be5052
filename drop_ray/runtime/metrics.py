"""The run in numbers, for Prometheus. Ray exports them from every node under these names, prefixed with `ray_`.

Ray discards a metric in silence if its name has other characters than letters, digits and `_`.
"""

import time

from ray.util.metrics import Counter, Gauge, Histogram

from drop_ray.store.outages import OUTAGES

UNITS_DONE = "drop_ray_units_done_total"
UNITS_REQUEUED = "drop_ray_units_requeued_total"
UNITS_FAILED = "drop_ray_units_failed_total"
UNIT_SECONDS = "drop_ray_unit_seconds"
UNIT_PROGRESS = "drop_ray_unit_progress"
TOKENS_SCORED = "drop_ray_tokens_scored_total"
LAST_UNIT = "drop_ray_last_unit_timestamp_seconds"
STORE_UNREACHABLE = "drop_ray_store_unreachable"
WORKERS_READY = "drop_ray_workers_ready"
WORKERS_BUSY = "drop_ray_workers_busy"

# Bounds of the histogram, from a task of a tiny model to a sweep of a large one.
SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0]


class StageMetrics:
    """What the driver counts, by run and stage: `score`, `refit`, `export`, `evaluate`, `quantize` or `bench`."""

    def __init__(self, run: str, stage: str):
        keys = ("run", "stage")
        self.units_done = Counter(UNITS_DONE, "Units that were done", keys)
        self.units_requeued = Counter(UNITS_REQUEUED, "Units whose worker was lost, given to another", keys)
        self.units_failed = Counter(UNITS_FAILED, "Units that failed, or lost their workers too often", keys)
        self.unit_seconds = Histogram(UNIT_SECONDS, "Seconds from handing out a unit to its result", SECONDS, keys)
        self.tokens_scored = Counter(TOKENS_SCORED, "Tokens of the sample ranges that were scored", keys)
        self.last_unit = Gauge(LAST_UNIT, "When a unit was done, or the stage began, in seconds since 1970", keys)
        self.workers_ready = Gauge(WORKERS_READY, "Workers that have started", keys)
        self.workers_busy = Gauge(WORKERS_BUSY, "Workers that have a unit", keys)
        for metric in vars(self).values():
            metric.set_default_tags({"run": run, "stage": stage})
        self.last_unit.set(time.time())

    def unit_is_done(self, seconds: float, tokens: int) -> None:
        """After so many seconds; tokens: those that were scored."""
        self.units_done.inc()
        self.unit_seconds.observe(seconds)
        self.last_unit.set(time.time())
        if tokens:
            self.tokens_scored.inc(tokens)


def export_outages(run: str) -> None:
    """Export from this process whether S3 answers it: 0, or 1 while it does not. Ray must be connected."""
    gauge = Gauge(STORE_UNREACHABLE, "1 while S3 gives no answer, or refuses credentials that are renewed", ("run",))
    gauge.set_default_tags({"run": run})
    OUTAGES.watch(gauge.set)


class ProgressMetric:
    """How far this worker is in a long unit, from 0 to 1, since the driver only learns of whole units."""

    def __init__(self, worker: str):
        self._gauge = Gauge(UNIT_PROGRESS, "How far a worker is in its unit, from 0 to 1", ("worker",))
        self._gauge.set_default_tags({"worker": worker})

    def __call__(self, fraction: float) -> None:
        self._gauge.set(fraction)
