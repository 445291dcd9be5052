"""The run in numbers, for Prometheus. Ray exports them from every node under these names, prefixed with `ray_`.

Ray discards a metric in silence if its name has other characters than letters, digits and `_`.
"""

from ray.util.metrics import Counter, Gauge, Histogram

UNITS_DONE = "drop_ray_units_done_total"
UNITS_REQUEUED = "drop_ray_units_requeued_total"
UNITS_FAILED = "drop_ray_units_failed_total"
UNIT_SECONDS = "drop_ray_unit_seconds"
UNIT_PROGRESS = "drop_ray_unit_progress"
TOKENS_SCORED = "drop_ray_tokens_scored_total"
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
        self.workers_ready = Gauge(WORKERS_READY, "Workers that have started", keys)
        self.workers_busy = Gauge(WORKERS_BUSY, "Workers that have a unit", keys)
        for metric in vars(self).values():
            metric.set_default_tags({"run": run, "stage": stage})


class ProgressMetric:
    """How far this worker is in a long unit, from 0 to 1, since the driver only learns of whole units."""

    def __init__(self, worker: str):
        self._gauge = Gauge(UNIT_PROGRESS, "How far a worker is in its unit, from 0 to 1", ("worker",))
        self._gauge.set_default_tags({"worker": worker})

    def __call__(self, done: int, total: int) -> None:
        self._gauge.set(done / total)
