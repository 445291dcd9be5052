"""The stage bench: serving speed of every variant against the base."""

from collections.abc import Sequence
from typing import Any

from drop_ray.calibration import packing
from drop_ray.job import steps
from drop_ray.job.artifacts import SAMPLES, SERVING
from drop_ray.job.job import Job
from drop_ray.job.ledger import Ledger
from drop_ray.planning.variants import Variant
from drop_ray.runtime import dispatch
from drop_ray.runtime.cluster import Cluster
from drop_ray.runtime.units import BenchUnit
from drop_ray.serving.checks import prompt_length
from drop_ray.serving.preflight import serving_size
from drop_ray.stages.quantize import quantized_commit
from drop_ray.stages.score import Calibration
from drop_ray.store.tables import read_table

# Calibration samples whose beginnings serving engines are checked on.
GATE_SAMPLES = 2


def bench(
    job: Job, cluster: Cluster, ledger: Ledger, variants: Sequence[Variant], samples: Calibration
) -> dict[str, list[dict[str, Any]]]:
    """Serving speed of every variant against the base, and of the base against itself; nothing without `serving`."""
    units = steps.bench_steps(job, variants)
    serving = job.config.serving
    if serving is None:
        return {}
    pending = ledger.pending("bench", {label: step for label, (_, step) in units.items()})
    if pending:
        token_ids = packing.from_table(read_table(job.store, samples.commit, SAMPLES))
        text = token_ids[:GATE_SAMPLES, : prompt_length(serving.model_len, token_ids.shape[1])].tolist()
        work = {
            label: BenchUnit(
                step,
                variant.drops,
                job.base_drops,
                serving,
                serving_size(job.config, job.size),
                text,
                job.config.execution.device,
                job.kv_cache_bytes,
                job.config.execution.tensor_parallel,
                variant.spec,
                quantized_commit(job, ledger, variant),
            )
            for label, (variant, step) in units.items()
            if label in pending
        }
        for commit in dispatch.bench(cluster, job, work):
            ledger.add(commit)
    return {
        variant.name: read_table(job.store, ledger.commit_of(step), SERVING).to_pylist()
        for variant, step in units.values()
    }
