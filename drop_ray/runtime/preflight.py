"""Whether the cluster can do the run, asked before any work. One message says all that is wrong, on every node.

A small task on every node says which libraries it has, whether it reaches the store and the driver's files in it, and
whether it has the model. Ray itself would let a request that no node can fulfil wait for ever.
"""

import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from drop_ray.config import ExecutionConfig
from drop_ray.errors import DropRayError, StoreOutageError, UserError
from drop_ray.job.worker import WorkerSetup
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.location import locate_model
from drop_ray.models.place import HUB_NAME
from drop_ray.runtime.logs import application_error
from drop_ray.runtime.losses import LOST_WORKER
from drop_ray.store.store import PROBE_PREFIX
from drop_ray.store.versions import installed_versions, public_versions

# A node that has not answered by then is taken as broken. Libraries on a network disk take a while to load.
ANSWER_S = 180.0


@dataclass(frozen=True)
class Node:
    """A node of the cluster."""

    node_id: str
    """Ray's name of the node."""
    address: str
    """IP address."""
    cpus: float
    """CPUs that it offers to Ray."""
    gpus: float
    """GPUs that it offers to Ray."""


@dataclass(frozen=True)
class NodeReport:
    """The report of a node about itself."""

    gpu_bytes: int | None
    """Memory of its smallest GPU in bytes; None without one."""
    faults: tuple[str, ...]
    """Faults of the node, one line each."""
    is_lost: bool = False
    """Whether it gave no report, or had no store in reach: another attempt may find it well, with the same input."""


class NodesLostError(DropRayError):
    """Nodes of the cluster went, gave no answer, or had the store out of reach, before any work."""


def alive_nodes() -> tuple[Node, ...]:
    """The nodes that are alive and offer anything to work with."""
    nodes = (
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    )
    return tuple(node for node in nodes if node.cpus or node.gpus)


def resource_faults(execution: ExecutionConfig, nodes: Sequence[Node]) -> Iterator[str]:
    """Requests of a worker that no node of the cluster can fulfil. A worker is on one node."""
    gpus, cpus = _gpus(execution), execution.cpus_per_worker
    most_cpus, most_gpus = max((n.cpus for n in nodes), default=0.0), max((n.gpus for n in nodes), default=0.0)
    if cpus > most_cpus:
        yield f"execution.cpus_per_worker: a worker asks for {cpus:g} CPU, the largest node has {most_cpus:g}"
    if gpus > most_gpus:
        yield f"execution.gpus_per_worker: a worker asks for {gpus:g} GPU, the largest node has {most_gpus:g}"
    elif cpus <= most_cpus and not any(node.cpus >= cpus and node.gpus >= gpus for node in nodes):
        yield f"execution: no node has both the {cpus:g} CPU and the {gpus:g} GPU that a worker asks for"
    if gpus and execution.tensor_parallel > max(most_gpus, 1):
        yield (
            f"execution.tensor_parallel: an engine asks for {execution.tensor_parallel} GPUs of one node, the largest "
            f"has {most_gpus:g}; engines over several nodes are not measured"
        )


def fitting_workers(execution: ExecutionConfig, nodes: Sequence[Node]) -> int:
    """The workers that the nodes have room for, each on one node; 1 at least, of which `resource_faults` says more."""
    cpus, gpus = execution.cpus_per_worker, _gpus(execution)
    fits = [min(_times(cpus, node.cpus), _times(gpus, node.gpus) if gpus else sys.maxsize) for node in nodes]
    return max(1, sum(fits))


def ask_nodes(setup: WorkerSetup, nodes: Sequence[Node], *, gpus: bool) -> tuple[list[str], int | None]:
    """The faults of the nodes, and the memory of the smallest GPU in bytes.

    `gpus` says whether workers are to have any. NodesLostError if another attempt may find all well that is wrong.
    """
    token = uuid.uuid4().hex
    path = f"{PROBE_PREFIX}{token}/driver"
    setup.store.write_file(path, token.encode())
    try:
        versions = public_versions(setup.libraries)
        # Each call has a process of its own, because looking at GPUs takes memory of them until the process ends.
        probe = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(probe_node)
        asked = {
            probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=True)).remote(
                setup, path, versions, gpus and node.gpus > 0
            ): node
            for node in nodes
        }
        ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
        reports = {node: _report(reference) for reference, node in asked.items()}
    finally:
        setup.store.files.remove_folder(f"{PROBE_PREFIX}{token}")
    faults = [f"node {node.address}: {fault}" for node, report in reports.items() for fault in report.faults]
    if faults and all(report.is_lost for report in reports.values() if report.faults):
        raise NodesLostError("\n".join(faults))
    sizes = [report.gpu_bytes for report in reports.values() if report.gpu_bytes is not None]
    return faults, min(sizes, default=None)


def probe_node(setup: WorkerSetup, path: str, versions: dict[str, str], gpus: bool) -> NodeReport:
    """The report of the node that this runs on.

    `path` is a file in the store that the driver wrote, and `versions` are the driver's library versions.
    """
    own = installed_versions(versions)
    faults = [
        f"{library} is {own.get(library, 'missing')}, the driver has {wanted}; install the same on every node"
        for library, wanted in versions.items()
        if own.get(library) != wanted
    ]
    gpu_bytes = None
    if gpus:
        gpu_bytes = _smallest_gpu_bytes()
        if gpu_bytes is None:
            faults.append("Ray offers GPUs here, but torch sees none; install a build of torch for GPUs, or a driver")
    try:
        return NodeReport(gpu_bytes, (*faults, *_store_faults(setup, path), *_model_faults(setup)))
    except StoreOutageError as error:
        return NodeReport(gpu_bytes, (*faults, str(error)), is_lost=not faults)


def _times(part: float, whole: float) -> int:
    """How often a part is in a whole; ten times 0.1 is not 1 in floats."""
    return int(whole / part + 1e-9)


def _gpus(execution: ExecutionConfig) -> float:
    """GPUs that a worker has at least."""
    return 1.0 if execution.gpus_per_worker == "auto" else execution.gpus_per_worker


def _report(reference: Any) -> NodeReport:
    try:
        report: NodeReport = ray.get(reference, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return NodeReport(None, (f"no answer within {ANSWER_S:.0f} s; is it overloaded, or its disk?",), True)
    except LOST_WORKER as error:
        return NodeReport(None, (f"lost before any work ({type(error).__name__})",), True)
    except RayError as error:
        return NodeReport(None, (f"cannot run drop_ray: {application_error(error).splitlines()[0]}",))
    return report


def _store_faults(setup: WorkerSetup, path: str) -> Iterator[str]:
    store = setup.store
    try:
        seen = store.exists(path)
        if seen:
            store.check_writable()
    except StoreOutageError:
        raise
    except (DropRayError, OSError) as error:
        yield str(error)
        return
    if not seen:
        yield (
            f"store: {store.location('')} is not the driver's store, but a folder of this node's own; use one that all "
            "nodes share: s3://bucket/prefix, or a folder of a network file system"
        )


def _model_faults(setup: WorkerSetup) -> Iterator[str]:
    """The faults of the model on this node, found without filling the node's caches.

    A whole model is not fetched or read just to find out whether it can be: workers compare all bytes when they start.
    They also download a Hugging Face name themselves.
    """
    model = setup.model
    if HUB_NAME.fullmatch(model.location) and not Path(model.location).is_dir():
        return
    try:
        checkpoint = open_checkpoint(locate_model(model.location, model.main_revision), setup.model_options)
    except StoreOutageError:
        raise
    except (UserError, OSError) as error:
        yield str(error)
        return
    if checkpoint.outline != setup.model_outline:
        yield f"model.path: {model.path} is not the model that the driver has; give every node the same files"


def _smallest_gpu_bytes() -> int | None:
    import torch

    sizes = [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
    return min(sizes, default=None)
