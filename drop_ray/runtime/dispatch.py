"""Sends the units of a stage to a pool of workers, and yields their commits as they come."""

import logging
from collections.abc import Iterator, Mapping

from drop_ray.errors import WorkerFailedError
from drop_ray.job import Job
from drop_ray.models.families import DropLists
from drop_ray.progress import Progress
from drop_ray.runtime.bench_worker import BenchFailure, BenchWorker
from drop_ray.runtime.cluster import Cluster
from drop_ray.runtime.pool import Item, Pool
from drop_ray.runtime.units import BenchUnit, EvaluationUnit, ExportUnit, ScoreUnits, Unit, WorkerSetup
from drop_ray.runtime.worker import Worker
from drop_ray.store import Commit, Step

logger = logging.getLogger(__name__)

# Resident layers may take this part of a device's memory; the rest is for states, masks and the library.
RESIDENT_FRACTION = 0.6


def score(
    cluster: Cluster,
    job: Job,
    calibration: Commit,
    drops: DropLists,
    pending: Mapping[range, Mapping[int, Step]],
    revision: str | None = None,
) -> Iterator[Commit]:
    """pending: the steps to do, by sample range and gap; revision: None for the run's model."""
    pool = _pool(cluster, job)
    placement = _placement(cluster, job, drops)
    units = tuple(pending.items())
    # A streamed sweep reads all the weights once per wave: as few, large shares as there are workers.
    share = -(-len(units) // job.config.execution.num_workers) if placement == "streamed" else 1
    items = {}
    for part in (units[start : start + share] for start in range(0, len(units), share)):
        name = f"samples {part[0][0].start} to {part[-1][0].stop - 1}"
        items[name] = ScoreUnits(calibration, drops, placement == "streamed", part, revision)
    return _run(pool, items, f"score {job.state_name(drops, revision)}, {placement} layers", "sample ranges")


def evaluate(cluster: Cluster, job: Job, units: Mapping[str, EvaluationUnit]) -> Iterator[Commit]:
    """units: by a name for people."""
    return _run(_pool(cluster, job), units, "evaluate", "units (plan x task)")


def export(cluster: Cluster, job: Job, units: Mapping[str, ExportUnit]) -> Iterator[Commit]:
    """units: by a name for people."""
    return _run(_pool(cluster, job), units, "export", "checkpoints")


def bench(cluster: Cluster, job: Job, units: Mapping[str, BenchUnit]) -> Iterator[Commit]:
    """units: by a name for people. Every unit is tried; WorkerFailedError at the end names those without a result."""
    execution = job.config.execution
    # Two benchmarks on one CPU would time each other.
    is_gpu = job.serving_device == "cuda"
    pool = cluster.pool(
        BenchWorker,
        _setup(job),
        num_actors=execution.num_workers if is_gpu else 1,
        num_gpus=execution.tensor_parallel if is_gpu else 0,
    )
    failures: dict[str, str] = {}
    items = [Item(name, unit, unit.drops) for name, unit in units.items()]
    progress = Progress("bench", len(items), "plans")
    for item, result in pool.run(items, progress.heartbeat):
        progress.advance(item.name)
        if isinstance(result, BenchFailure):
            failures[item.name] = result.message
            logger.error("bench of %s failed: %s", item.name, result.message.splitlines()[0])
        else:
            yield from result
    if failures:
        raise WorkerFailedError("\n".join(f"bench of {name} failed: {message}" for name, message in failures.items()))


def _run(pool: Pool, units: Mapping[str, Unit], stage: str, noun: str) -> Iterator[Commit]:
    items = [Item(name, unit, (stage, unit.drops)) for name, unit in units.items()]
    progress = Progress(stage, len(items), noun)
    for item, commits in pool.run(items, progress.heartbeat):
        progress.advance(item.name)
        yield from commits


def _pool(cluster: Cluster, job: Job) -> Pool:
    return cluster.pool(Worker, _setup(job))


def _setup(job: Job) -> WorkerSetup:
    execution = job.config.execution
    return WorkerSetup(
        model=job.config.model,
        model_identity=job.checkpoint.identity,
        store=job.store,
        scoring=job.config.scoring,
        evaluation=job.config.evaluation,
        include_path=job.include_path,
        threads=execution.threads_per_worker if execution.gpus_per_worker == 0 else None,
        wave_bytes=execution.wave_bytes,
        earlier_identities={revision: checkpoint.identity for revision, checkpoint in job.earlier.items()},
        model_options=job.config.s3_options(job.config.model.path),
    )


def _placement(cluster: Cluster, job: Job, drops: DropLists) -> str:
    """Whether the model's layers stay in memory while they are scored, or are streamed from the checkpoint."""
    wanted = job.config.execution.layers
    if wanted != "auto":
        return wanted
    needed = job.size.kept_parameters(drops) * job.size.bytes_per_parameter
    return "resident" if needed <= cluster.worker_bytes * RESIDENT_FRACTION else "streamed"
