"""The connection to Ray: made when the first work is found, checked against what the run asks for."""

import logging
import os
from functools import cached_property, partial
from types import TracebackType
from typing import Any

import psutil
import ray

from drop_ray.config import ExecutionConfig
from drop_ray.errors import UserError
from drop_ray.runtime.pool import Pool, PoolSettings

logger = logging.getLogger(__name__)


class Cluster:
    """Joins the cluster at RAY_ADDRESS, or starts Ray on this machine; shut down what was started on leaving."""

    def __init__(self, execution: ExecutionConfig):
        self.execution = execution
        self._connected_here = False
        self._pool: Pool | None = None
        self._worker: type | None = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.close()
        if self._connected_here:
            ray.shutdown()

    def pool(self, worker: type, setup: Any, *, num_actors: int | None = None, num_gpus: float | None = None) -> Pool:
        """The pool of actors `worker(setup)`, started at the first call and kept until other workers are asked for.

        num_actors, num_gpus: None is what `execution` says.
        """
        if self._pool is not None and self._worker is not worker:
            self._pool.close()
            self._pool = None
        if self._pool is None:
            self.connect()
            execution, self._worker = self.execution, worker
            count = num_actors or execution.num_workers
            options = {
                "num_cpus": execution.cpus_per_worker,
                "num_gpus": execution.gpus_per_worker if num_gpus is None else num_gpus,
                # A restarted actor would have lost its state; the pool replaces it instead.
                "max_restarts": 0,
            }
            settings = PoolSettings(count, execution.max_attempts, execution.start_timeout_s)
            actor = ray.remote(worker).options(**options)
            self._pool = Pool(partial(actor.remote, setup), settings)
        return self._pool

    @cached_property
    def worker_bytes(self) -> int:
        """Memory of one worker: of its GPU, or its share of this machine's. Asked before they take the GPUs."""
        self.connect()
        num_gpus = self.execution.gpus_per_worker
        if num_gpus == 0:
            return int(psutil.virtual_memory().available // self.execution.num_workers)
        return int(ray.get(ray.remote(_gpu_bytes).options(num_gpus=num_gpus).remote()))

    def connect(self) -> None:
        """Connect once, and refuse a request that the cluster could never fulfil: Ray would wait for ever."""
        if not ray.is_initialized():
            self._connected_here = True
            _init(self.execution)
        resources = ray.cluster_resources()
        self._check_one_node_has_the_gpus()
        for resource, wanted in (("CPU", self.execution.cpus_per_worker), ("GPU", self.execution.gpus_per_worker)):
            available = resources.get(resource, 0)
            if wanted > available:
                raise UserError(
                    f"execution.{resource.lower()}s_per_worker: a worker asks for {wanted:g} {resource}, "
                    f"the cluster has {available:g}"
                )
            if wanted * self.execution.num_workers > available:
                logger.warning(
                    "execution.num_workers: %d workers of %g %s are asked for, the cluster has %g; fewer will work",
                    self.execution.num_workers,
                    wanted,
                    resource,
                    available,
                )

    def _check_one_node_has_the_gpus(self) -> None:
        if not self.execution.gpus_per_worker or self.execution.tensor_parallel == 1:
            return
        most = max(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"])
        if self.execution.tensor_parallel > most:
            raise UserError(
                f"execution.tensor_parallel: an engine asks for {self.execution.tensor_parallel} GPUs of one node, "
                f"the largest has {most:g}"
            )


def _gpu_bytes() -> int:
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)


def _init(execution: ExecutionConfig) -> None:
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" in os.environ:
        logger.info("joining the Ray cluster at %s", os.environ["RAY_ADDRESS"])
        ray.init(**options)
        return
    # "local" always: a stale address file of an earlier cluster would otherwise be followed. Workers count in whole
    # CPUs that may be more than the machine has: on a small one they share.
    num_cpus = max(os.cpu_count() or 1, round(execution.num_workers * execution.cpus_per_worker))
    logger.info("starting Ray on this machine with %d CPUs", num_cpus)
    ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **options)
