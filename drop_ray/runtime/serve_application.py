"""`drop-ray serve --ray`: an application of Ray Serve, run until it is told to end.

On the cluster at RAY_ADDRESS the application is taken away again; Ray that was started here ends with it.
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from drop_ray.errors import DropRayError, UserError
from drop_ray.runtime.connection import ADDRESS, join_or_start
from drop_ray.runtime.logs import application_error
from drop_ray.runtime.packaging import own_modules
from drop_ray.runtime.preflight import ANSWER_S, Node, alive_nodes
from drop_ray.runtime.termination import sigterm_handler_kept
from drop_ray.serving.ray_application import MODULES, Application

logger = logging.getLogger(__name__)

# Besides the engines': the replica of the application's entry.
ENTRY_CPUS = 1


def run_application(application: Application) -> int:
    """Deploy, say where it answers, and wait for Ctrl-C or SIGTERM. Returns the exit code.

    UserError, before anything is deployed, if the cluster cannot run it; DropRayError if a replica does not start.
    """
    joins = ADDRESS in os.environ
    with sigterm_handler_kept():
        # Nodes of a cluster get this drop_ray, with its plugin for vLLM; on this machine it is installed.
        options = {"runtime_env": {"py_modules": own_modules()}} if joins else {}
        cpus = ENTRY_CPUS + application.replicas.most * application.replicas.cpus
        join_or_start(cpus, log_to_driver=True, **options)
    try:
        check_cluster(application, alive_nodes())
        _deploy_and_wait(application)
    finally:
        ray.shutdown()
    return 0


def check_cluster(application: Application, nodes: tuple[Node, ...]) -> None:
    """Raise UserError, which lists all faults, if replicas would wait for ever or not find what they need."""
    faults = list(_resource_faults(application, nodes))
    if [node.node_id for node in nodes] != [ray.get_runtime_context().get_node_id()]:
        faults += _node_faults(application, nodes)
    if faults:
        raise UserError("\n".join(faults))


def missing_here(folders: Sequence[str]) -> list[str]:
    """What this node lacks."""
    faults = [f"lacks the Python package {module}; use an image with it" for module in MODULES if not find_spec(module)]
    absent = [folder for folder in folders if not Path(folder).is_dir()]
    remedy = "put it where all nodes see it, or give a Hugging Face name"
    return [*faults, *(f"has no folder {folder}; {remedy}" for folder in absent)]


def _resource_faults(application: Application, nodes: tuple[Node, ...]) -> Iterator[str]:
    wanted, what = (application.gpus, "GPUs") if application.gpus else (application.replicas.cpus, "CPUs")
    there = sum(node.gpus if application.gpus else node.cpus for node in nodes)
    least = max(application.replicas.least, 1)
    if least * wanted > there:
        yield (
            f"{least} x {wanted} {what} are asked for, the cluster has {there:g}; give fewer --replicas or a smaller "
            "--tensor-parallel-size; for a cluster that grows on demand, --write the application and `serve deploy` it"
        )


def _node_faults(application: Application, nodes: tuple[Node, ...]) -> list[str]:
    """Of the nodes that a replica may come to."""
    probe = ray.remote(num_cpus=0, max_retries=0)(missing_here)
    asked = {
        node: probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)).remote(
            application.folders
        )
        for node in nodes
        if node.gpus or not application.gpus
    }
    faults = []
    for node, reference in asked.items():
        try:
            faults += [f"node {node.address} {fault}" for fault in ray.get(reference, timeout=ANSWER_S)]
        except RayError as error:
            faults.append(f"node {node.address} cannot run drop_ray: {application_error(error).splitlines()[0]}")
    return faults


def _deploy_and_wait(application: Application) -> None:
    from ray import serve
    from ray.serve.exceptions import RayServeException
    from ray.serve.llm import build_openai_app

    config = application.config
    (entry,) = config["applications"]
    http = config["http_options"]
    serve.start(proxy_location=config["proxy_location"], http_options=http)
    if others := [*serve.status().applications]:
        raise UserError(
            f"the cluster serves {', '.join(others)} already, whose address this would take; `serve delete` it, or add "
            "what --write writes to its file by hand"
        )
    try:
        try:
            serve.run(build_openai_app(entry["args"]), name=entry["name"], route_prefix=entry["route_prefix"])
        except (RuntimeError, RayError, RayServeException) as error:
            raise DropRayError(f"the application did not start: {error}") from error
        print(f"serving at http://{http['host']}:{http['port']}/v1 with Ray; Ctrl-C ends it", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        logger.info("ending the application")
    finally:
        serve.delete(entry["name"])
        if not serve.status().applications:  # the next one may want another address
            serve.shutdown()
