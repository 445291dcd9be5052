"""The connection to Ray. It is made when the first work is found, and checked against what the run asks for."""

import logging
import math
import os
from functools import partial
from types import TracebackType
from typing import Self

import psutil
import ray
from ray.exceptions import RayError

from drop_ray.config import ExecutionConfig
from drop_ray.errors import UserError
from drop_ray.job.layout import Layout, layout_of
from drop_ray.job.units import WorkerRequest
from drop_ray.job.worker import WorkerSetup
from drop_ray.runtime.pool import Pool, PoolSettings
from drop_ray.runtime.preflight import Node, alive_nodes, ask_nodes, resource_faults
from drop_ray.runtime.termination import sigterm_handler_kept
from drop_ray.runtime.worker import WorkerActor
from drop_ray.text.faults import with_cause

logger = logging.getLogger(__name__)


class Cluster:
    """Joins the cluster at RAY_ADDRESS, or starts Ray on this machine, which it shuts down again on leaving."""

    def __init__(self, execution: ExecutionConfig):
        self.execution = execution
        self._connected_here = False
        self._pool: Pool | None = None
        self._workers: tuple[str, Layout] | None = None
        self._nodes: tuple[Node, ...] = ()
        self._gpu_bytes: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.close()
        if self._connected_here:
            ray.shutdown()

    def connect(self, setup: WorkerSetup) -> None:
        """Connect and check the cluster, once. UserError, which lists all faults, before any work."""
        if self._nodes:
            return
        if not ray.is_initialized():
            self._connected_here = True
            with sigterm_handler_kept():
                _init(self.execution)
        nodes = alive_nodes()
        faults = list(resource_faults(self.execution, nodes))
        has_gpus = bool(self.execution.gpus_per_worker)
        # On the driver's own machine, libraries, store and model are those of the driver.
        is_alone = [node.node_id for node in nodes] == [ray.get_runtime_context().get_node_id()]
        if has_gpus or not is_alone:
            node_faults, self._gpu_bytes = ask_nodes(setup, nodes, gpus=has_gpus)
            faults += node_faults
        if faults:
            raise UserError("\n".join(faults))
        self._nodes = nodes
        self._warn_of_few()

    def pool(self, setup: WorkerSetup, request: WorkerRequest, goes_on: bool) -> Pool:
        """The pool of workers asked for: started at the first call, and kept until other workers are asked for.

        goes_on: whether a worker returns the error of a share, so that the others are still done.
        """
        self.connect(setup)
        layout = self.layout(request)
        if self._pool is not None and self._workers != (request.pool, layout):
            self._pool.close()
            self._pool = None
        if self._pool is None:
            execution, self._workers = self.execution, (request.pool, layout)
            options = {
                "num_cpus": layout.cpus,
                "num_gpus": layout.gpus,
                # A restarted actor would have lost its state; the pool replaces it instead.
                "max_restarts": 0,
                "runtime_env": {"env_vars": dict(request.environment)} if request.environment else None,
            }
            settings = PoolSettings(
                num_actors=layout.num_workers,
                max_attempts=execution.max_attempts,
                start_timeout_s=execution.start_timeout_s,
                unit_timeout=execution.unit_timeout,
            )
            actor = ray.remote(WorkerActor).options(**options)
            self._pool = Pool(partial(actor.remote, setup, goes_on), settings)
        return self._pool

    def layout(self, request: WorkerRequest) -> Layout:
        """The workers that the request gets on this cluster. UserError if its GPUs are too few."""
        return layout_of(
            self.execution, request, self._gpu_bytes, max((node.gpus for node in self._nodes), default=math.inf)
        )

    @property
    def bytes_per_worker(self) -> int:
        """Bytes of memory of a scoring worker: of its GPU or its part of one, or its part of this machine's memory."""
        wanted = self.execution.gpus_per_worker
        if not wanted:
            return int(psutil.virtual_memory().available // self.execution.num_workers)
        assert self._gpu_bytes is not None
        return int(self._gpu_bytes * (1 if wanted == "auto" else min(wanted, 1)))

    def _warn_of_few(self) -> None:
        gpus = 1.0 if self.execution.gpus_per_worker == "auto" else self.execution.gpus_per_worker
        for resource, wanted, available in (
            ("CPU", self.execution.cpus_per_worker, sum(node.cpus for node in self._nodes)),
            ("GPU", gpus, sum(node.gpus for node in self._nodes)),
        ):
            if wanted * self.execution.num_workers > available:
                logger.warning(
                    "execution.num_workers: %d workers of %g %s are asked for, the cluster has %g; fewer will work",
                    self.execution.num_workers,
                    wanted,
                    resource,
                    available,
                )


def _init(execution: ExecutionConfig) -> None:
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" in os.environ:
        address = os.environ["RAY_ADDRESS"]
        if address.startswith(("http://", "https://")):
            raise UserError(
                f"RAY_ADDRESS: {address} is the address of a dashboard, to which `drop-ray submit --address` gives "
                "jobs; a cluster that this process is to join is HEAD:6379, or ray://HEAD:10001; unset it to start Ray "
                "here"
            )
        logger.info("joining the Ray cluster at %s", address)
        try:
            ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError, OSError, RayError) as error:
            raise UserError(
                f"RAY_ADDRESS: no Ray cluster answers at {address} ({with_cause(error)}); start it, or unset "
                "RAY_ADDRESS to start Ray here"
            ) from error
        return
    # Always "local": otherwise Ray would follow a stale address file of an earlier cluster. It is told of as many CPUs
    # as all workers ask for, so that they share those of a small machine.
    num_cpus = max(os.cpu_count() or 1, round(execution.num_workers * execution.cpus_per_worker))
    logger.info("starting Ray on this machine with %d CPUs", num_cpus)
    ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **options)
