"""Sends the units of a stage to a pool of workers, and yields their commits as they come."""

import logging
from collections.abc import Iterable, Iterator, Mapping

from drop_ray.errors import WorkerFailedError
from drop_ray.job.job import Job
from drop_ray.models.families import DropLists
from drop_ray.quantization.gptqmodel_engine import environment
from drop_ray.runtime.bench_worker import BenchFailure, BenchWorker
from drop_ray.runtime.cluster import Cluster
from drop_ray.runtime.pool import Item, Pool
from drop_ray.runtime.quantization_worker import QuantizationWorker
from drop_ray.runtime.units import (
    LIBRARIES,
    BenchUnit,
    EvaluationUnit,
    ExportUnit,
    QuantizationUnit,
    ScoreUnits,
    Unit,
    WorkerSetup,
)
from drop_ray.runtime.watch import StageWatch
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
    title = f"score {job.state_name(drops, revision)}, {placement} layers"
    return _run(job, pool, items, "score", "sample ranges", title)


def evaluate(cluster: Cluster, job: Job, units: Mapping[str, EvaluationUnit]) -> Iterator[Commit]:
    """units: by a name for people, all in 16 bits or all quantized."""
    is_quantized = any(unit.quantized for unit in units.values())
    pool = _quantization_pool(cluster, job) if is_quantized else _pool(cluster, job, _largest(job, units.values()))
    return _run(job, pool, units, "evaluate", "units (plan x task)")


def quantize(cluster: Cluster, job: Job, units: Mapping[str, QuantizationUnit]) -> Iterator[Commit]:
    """units: by a name for people."""
    return _run(job, _quantization_pool(cluster, job), units, "quantize", "checkpoints")


def export(cluster: Cluster, job: Job, units: Mapping[str, ExportUnit]) -> Iterator[Commit]:
    """units: by a name for people."""
    return _run(job, _pool(cluster, job), units, "export", "checkpoints")


def bench(cluster: Cluster, job: Job, units: Mapping[str, BenchUnit]) -> Iterator[Commit]:
    """units: by a name for people. Every unit is tried; WorkerFailedError at the end names those without a result."""
    execution = job.config.execution
    # Two benchmarks on one CPU would time each other.
    is_gpu = execution.device == "cuda"
    pool = cluster.pool(
        BenchWorker,
        _setup(job),
        num_actors=execution.num_workers if is_gpu else 1,
        num_gpus=execution.tensor_parallel if is_gpu else 0,
    )
    failures: dict[str, str] = {}
    items = [Item(name, unit, unit.drops) for name, unit in units.items()]
    with StageWatch(job, "bench", "bench", "plans", len(items)) as watch:
        for item, result in pool.run(items, watch):
            if isinstance(result, BenchFailure):
                failures[item.name] = result.message
                logger.error("bench of %s failed: %s", item.name, result.message.splitlines()[0])
            else:
                yield from result
    if failures:
        raise WorkerFailedError("\n".join(f"bench of {name} failed: {message}" for name, message in failures.items()))


def _run(
    job: Job, pool: Pool, units: Mapping[str, Unit], stage: str, noun: str, title: str | None = None
) -> Iterator[Commit]:
    """title: of the stage for people, where its name does not say it all."""
    title = title or stage
    items = [Item(name, unit, (title, _model_key(unit)), _tokens(job, unit)) for name, unit in units.items()]
    with StageWatch(job, stage, title, noun, len(items)) as watch:
        for _, commits in pool.run(items, watch):
            yield from commits


def _model_key(unit: Unit) -> object:
    """Equal for units of one model, which a worker keeps."""
    return unit.model_key if isinstance(unit, EvaluationUnit) else unit.drops


def _tokens(job: Job, unit: Unit) -> int:
    """That are scored, of which every sample of a range has as many."""
    if not isinstance(unit, ScoreUnits):
        return 0
    return sum(len(samples) for samples, _ in unit.ranges) * job.config.calibration.seq_len


def _pool(cluster: Cluster, job: Job, model_bytes: int = 0) -> Pool:
    return cluster.pool(Worker, _setup(job), model_bytes=model_bytes)


def _largest(job: Job, units: Iterable[EvaluationUnit]) -> int:
    """Bytes of the largest model among those that are evaluated."""
    return max(job.size.kept_parameters(unit.drops) for unit in units) * job.size.bytes_per_parameter


def _quantization_pool(cluster: Cluster, job: Job) -> Pool:
    return cluster.pool(QuantizationWorker, _setup(job), environment=environment(job.config.execution.device))


def _setup(job: Job) -> WorkerSetup:
    execution = job.config.execution
    return WorkerSetup(
        model=job.config.model,
        model_identity=job.checkpoint.identity,
        store=job.store,
        scoring=job.config.scoring,
        evaluation=job.config.evaluation,
        include_path=job.include_path,
        threads=execution.threads_per_worker if execution.device == "cpu" else None,
        wave_bytes=execution.wave_bytes,
        earlier_identities={revision: checkpoint.identity for revision, checkpoint in job.earlier.items()},
        model_options=job.config.s3_options(job.config.model.path),
        cache_dir=execution.cache_dir,
        cache_bytes=execution.cache_bytes,
        libraries=(*LIBRARIES, *_further_libraries(job)),
    )


def _further_libraries(job: Job) -> Iterator[str]:
    if job.config.quantization:
        yield from ("gptqmodel", "optimum")
    if job.config.serving is not None and job.config.serving.engine == "vllm":
        yield "vllm"


def _placement(cluster: Cluster, job: Job, drops: DropLists) -> str:
    """Whether the model's layers stay in memory while they are scored, or are streamed from the checkpoint."""
    wanted = job.config.execution.layers
    if wanted != "auto":
        return wanted
    needed = job.size.kept_parameters(drops) * job.size.bytes_per_parameter
    return "resident" if needed <= cluster.worker_bytes * RESIDENT_FRACTION else "streamed"
