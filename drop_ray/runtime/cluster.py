"""The connection to Ray. It is made when the first work is found, and checked against what the run asks for."""

import logging
import math
from functools import partial
from types import TracebackType
from typing import Self

import psutil
import ray

from drop_ray.config import ExecutionConfig
from drop_ray.errors import UserError
from drop_ray.job.layout import Layout, layout_of
from drop_ray.job.units import WorkerRequest
from drop_ray.job.worker import WorkerSetup
from drop_ray.runtime.connection import join_or_start
from drop_ray.runtime.metrics import export_outages
from drop_ray.runtime.pool import Pool, PoolSettings
from drop_ray.runtime.preflight import Node, alive_nodes, ask_nodes, fitting_workers, resource_faults
from drop_ray.runtime.termination import sigterm_handler_kept
from drop_ray.runtime.worker import WorkerActor

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

    def fit(self) -> ExecutionConfig:
        """What the run asks for, with a number in place of `num_workers: auto`, for which the cluster is looked at."""
        if self.execution.num_workers == "auto":
            self._join()
            nodes = alive_nodes()
            self.execution = self.execution.model_copy(update={"num_workers": fitting_workers(self.execution, nodes)})
            logger.info(
                "execution.num_workers: auto is %d, on %d nodes with %g CPUs and %g GPUs",
                *(self.execution.num_workers, len(nodes), sum(n.cpus for n in nodes), sum(n.gpus for n in nodes)),
            )
        return self.execution

    def connect(self, setup: WorkerSetup) -> None:
        """Connect and check the cluster, once. UserError, which lists all faults, before any work."""
        if self._nodes:
            return
        self._join()
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
        export_outages(setup.run)
        self._warn_of_few()

    def _join(self) -> None:
        if not ray.is_initialized():
            self._connected_here = True
            with sigterm_handler_kept():
                join_or_start(round(self.execution.num_groups * self.execution.cpus_per_worker))

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
            return int(psutil.virtual_memory().available // self.execution.num_groups)
        assert self._gpu_bytes is not None
        return int(self._gpu_bytes * (1 if wanted == "auto" else min(wanted, 1)))

    def _warn_of_few(self) -> None:
        gpus = 1.0 if self.execution.gpus_per_worker == "auto" else self.execution.gpus_per_worker
        for resource, wanted, available in (
            ("CPU", self.execution.cpus_per_worker, sum(node.cpus for node in self._nodes)),
            ("GPU", gpus, sum(node.gpus for node in self._nodes)),
        ):
            if wanted * self.execution.num_groups > available:
                logger.warning(
                    "execution.num_workers: %d workers of %g %s are asked for, the cluster has %g; fewer will work",
                    self.execution.num_groups,
                    wanted,
                    resource,
                    available,
                )
