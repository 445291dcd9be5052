"""Sends the units of a stage to a pool of workers, and yields their commits as they come."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psutil
import ray

from drop_ray.job import Job
from drop_ray.models.families import DropLists
from drop_ray.progress import Progress
from drop_ray.runtime.cluster import Cluster
from drop_ray.runtime.pool import Item, Pool
from drop_ray.runtime.workers import (
    EvaluationUnit,
    EvaluationWorker,
    ExportUnit,
    ExportWorker,
    ScoreUnits,
    ScoreWorker,
    WorkerSetup,
)
from drop_ray.store import Commit, Step

logger = logging.getLogger(__name__)

# Resident layers may take this part of a device's memory; the rest is for states, masks and the library.
RESIDENT_FRACTION = 0.6


def score(
    cluster: Cluster, job: Job, calibration: Commit, drops: DropLists, pending: Mapping[range, Mapping[int, Step]]
) -> Iterator[Commit]:
    """pending: the steps to do, by sample range and gap."""
    pool = cluster.pool(ScoreWorker, _setup(job), calibration, job.config.scoring, job.config.execution.wave_bytes)
    placement = _placement(cluster, job, drops)
    units = tuple(pending.items())
    # A streamed sweep reads all the weights once per wave: as few, large shares as there are workers.
    share = -(-len(units) // job.config.execution.num_workers) if placement == "streamed" else 1
    items = [
        Item(
            f"samples {part[0][0].start} to {part[-1][0].stop - 1}",
            ScoreUnits(drops, placement == "streamed", part),
            drops,
        )
        for part in (units[start : start + share] for start in range(0, len(units), share))
    ]
    state = f"score without {drops.count} sub-layers" if drops != job.base_drops else "score"
    for commits in _run(pool, items, Progress(f"{state}, {placement} layers", len(items), "sample ranges")):
        yield from commits


def evaluate(cluster: Cluster, job: Job, units: Sequence[EvaluationUnit], names: Sequence[str]) -> Iterator[Commit]:
    """names: of the units, for people."""
    pool = cluster.pool(EvaluationWorker, _setup(job), job.config.evaluation, job.include_path)
    items = [Item(name, unit, unit.drops) for name, unit in zip(names, units, strict=True)]
    yield from _run(pool, items, Progress("evaluate", len(items), "units (plan x task)"))


def export(cluster: Cluster, job: Job, units: Sequence[ExportUnit], names: Sequence[str]) -> Iterator[Commit]:
    """names: of the units, for people."""
    pool = cluster.pool(ExportWorker, _setup(job), num_gpus=0)
    items = [Item(name, unit, unit.drops) for name, unit in zip(names, units, strict=True)]
    yield from _run(pool, items, Progress("export", len(items), "checkpoints"))


def _run(pool: Pool, items: list[Item], progress: Progress) -> Iterator[Any]:
    for item, result in pool.run(items, progress.heartbeat):
        progress.advance(item.name)
        yield result


def _setup(job: Job) -> WorkerSetup:
    execution = job.config.execution
    threads = execution.threads_per_worker if execution.gpus_per_worker == 0 else None
    return WorkerSetup(job.config.model, job.checkpoint.identity, job.store, threads)


def _placement(cluster: Cluster, job: Job, drops: DropLists) -> str:
    """Whether the model's layers fit where they are to be scored; asked of one device of the cluster."""
    wanted = cluster.execution.layers
    if wanted != "auto":
        return wanted
    needed = job.size.kept_parameters(drops) * job.size.bytes_per_parameter
    if cluster.execution.gpus_per_worker:
        ask = ray.remote(_gpu_bytes).options(num_gpus=cluster.execution.gpus_per_worker)
        available = ray.get(ask.remote())
    else:
        available = psutil.virtual_memory().available // cluster.execution.num_workers
    placement = "resident" if needed <= available * RESIDENT_FRACTION else "streamed"
    logger.debug("layers are %s: %.1f GB of weights, %.1f GB for a worker", placement, needed / 1e9, available / 1e9)
    return placement


def _gpu_bytes() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)
