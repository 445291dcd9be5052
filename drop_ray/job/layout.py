"""How many workers a stage has, and how many GPUs each of them holds: none holds a GPU that does not compute.

`execution` says how many GPUs there are, as `num_workers` groups of `gpus_per_worker` on one node each. A stage says
what its units need; the groups are cut into as many workers as that leaves room for. Numbers never depend on it.
"""

import math
from dataclasses import dataclass

from drop_ray.config import ExecutionConfig
from drop_ray.errors import UserError
from drop_ray.job.units import WorkerRequest
from drop_ray.models.spreading import gpus_needed
from drop_ray.text.units import human_bytes


@dataclass(frozen=True)
class Layout:
    """The workers of one stage."""

    num_workers: int
    """Number of workers that work at the same time, if the cluster has room for them."""
    gpus: float
    """GPUs of each worker; 0 on CPUs."""
    cpus: float
    """CPUs that Ray sets aside for each worker."""

    @property
    def num_gpus(self) -> float:
        """GPUs of all workers together."""
        return self.num_workers * self.gpus


def layout_of(
    execution: ExecutionConfig, request: WorkerRequest, gpu_bytes: int | None, most_gpus: float = math.inf
) -> Layout:
    """The workers that the request gets. gpu_bytes: memory of the smallest GPU; most_gpus: GPUs of the largest node.

    A worker computes on one GPU, unless it holds a whole model that is larger, or an engine that asks for a number. A
    group of 4 GPUs is 4 workers of one, or 2 of a model that needs 2; with 3 needed it stays one worker of 4, since the
    fourth holds a part, too. UserError if a group has fewer GPUs than the model needs.
    """
    wanted, cpus = execution.gpus_per_worker, execution.cpus_per_worker
    if not wanted or request.num_gpus == 0:
        return Layout(request.num_workers or execution.num_groups, 0, cpus)
    if request.num_gpus is not None:
        group = 1 if wanted == "auto" else wanted
        whole = execution.num_groups if wanted == "auto" else int(execution.num_groups * group // request.num_gpus)
        share = min(1, request.num_gpus / group)
        return Layout(request.num_workers or max(1, whole), request.num_gpus, cpus * share)
    needed = 1 if not request.model_bytes else _needed(request.model_bytes, wanted, gpu_bytes, most_gpus)
    if wanted == "auto":
        return Layout(request.num_workers or execution.num_groups, needed, cpus)
    if wanted <= 1:
        return Layout(request.num_workers or execution.num_groups, wanted, cpus)
    parts = int(wanted) // needed
    return Layout(request.num_workers or execution.num_groups * parts, int(wanted) // parts, cpus / parts)


def _needed(model_bytes: int, wanted: float | str, gpu_bytes: int | None, most_gpus: float) -> int:
    """GPUs that hold a model of that size; UserError if there are too few."""
    assert gpu_bytes is not None  # nodes without GPUs were refused
    needed = gpus_needed(model_bytes, gpu_bytes)
    available = most_gpus if isinstance(wanted, str) else wanted
    if needed > max(available, 1):
        where = "the largest node has" if isinstance(wanted, str) else "a worker has"
        raise UserError(
            f"execution.gpus_per_worker: a model of {human_bytes(model_bytes)} needs {needed} GPUs of "
            f"{human_bytes(gpu_bytes)} on one node, {where} {available:g}"
        )
    return needed
