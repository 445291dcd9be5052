"""The configuration of Ray Serve LLM for a variant: what `serve run`, `serve deploy` and a RayService take.

Ray's own package serves it. What its engine is told are the arguments of vLLM's server, which are the same with Ray and
without. A plan's draft has no folder that all nodes see: its drop lists stand where vLLM wants one, and each replica
makes its own.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.location import locate_model
from drop_ray.serving.engine import DraftSettings
from drop_ray.serving.given_arguments import given_arguments
from drop_ray.serving.servable import is_for_cpus
from drop_ray.serving.serve import LOCAL, LOOPBACK, check_server, server_environment
from drop_ray.serving.served_draft import check_only_draft, draft_arguments, planned_drops
from drop_ray.serving.speculation import speculation

logger = logging.getLogger(__name__)

NAME = "drop-ray"
FILE = "serve_config.yaml"
BUILDER = "ray.serve.llm:build_openai_app"
DRAFTING_SERVER = "drop_ray.runtime.drafting_server:DraftingServer"
# What Ray's package imports and the rest of drop_ray does not need.
MODULES = ("fastapi", "grpc_reflection", "jsonref", "mmh3", "vllm")
PORT = 8000
# Requests that a replica has at a time before there is another. Ray Serve LLM itself would never add one.
REQUESTS_PER_REPLICA = 32

HEADER = f"""\
# Written by `drop-ray serve --ray`. With this version of drop_ray, Ray and vLLM on every node:
#   serve run {FILE}           on a cluster, to its end
#   serve deploy {FILE}        by the address of its dashboard, --address http://HEAD:8265
#   serveConfigV2 of a RayService is the same text.
"""


@dataclass(frozen=True)
class Replicas:
    """How many replicas there are, and what one takes."""

    least: int = 1
    """Number of replicas that there always are."""
    most: int = 1
    """Number of replicas that there are at most; more than `least` if requests decide."""
    cpus: int = 1
    """CPUs of a replica, where vLLM is its build for CPUs."""

    def __post_init__(self) -> None:
        if self.least < 0 or self.most < max(self.least, 1):
            raise UserError(f"from {self.least} to {self.most} replicas there are none; give --replicas of 1 or more")
        if self.cpus < 1:
            raise UserError(f"--cpus: {self.cpus} are too few for a replica; give 1 or more")


def replicas_of(number: int | None, least: int | None, most: int | None, cpus: int | None) -> Replicas:
    """What the options of the command say; None for one that was not given."""
    if number is not None and (least is not None or most is not None):
        raise UserError("--replicas is a fixed number; leave --min-replicas and --max-replicas out, or it")
    if most is None and least is not None:
        raise UserError("--min-replicas needs --max-replicas, up to which requests add some")
    if number is not None:
        least = most = number
    return Replicas(*(1 if given is None else given for given in (least, most, cpus)))


@dataclass(frozen=True)
class Application:
    """An application of Ray Serve for one variant."""

    config: dict[str, Any]
    """Content of the file."""
    folders: tuple[str, ...]
    """Folders that every node must have: of the model and of a draft, where they have no Hugging Face names."""
    gpus: int
    """GPUs of one replica; 0 with vLLM's build for CPUs."""
    replicas: Replicas
    """Number of replicas, and CPUs of each."""

    @property
    def text(self) -> str:
        return HEADER + yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)

    def write(self, folder: Path) -> Path:
        """Write the file into the folder, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(self.text)
        return folder / FILE


def make_application(
    path: str, arguments: Sequence[str], replicas: Replicas, draft: str | None = None, draft_tokens: int = 3
) -> Application:
    """The application of a base or dropped checkpoint, with a draft or without: as `serve`, but by Ray Serve.

    UserError if something is not installed, or if vLLM would not serve it.
    """
    check_ray_serve()
    check_server(path, draft)
    drops = None
    source, draft = _absolute(path), draft and _absolute(draft)
    if draft is not None and Path(draft).is_file():
        check_only_draft(draft_tokens, arguments)
        drops = planned_drops(open_checkpoint(locate_model(path, None)), Path(draft)).as_identity()
    elif draft is not None:
        arguments = [*draft_arguments(path, draft, draft_tokens, arguments), *arguments]
    given = given_arguments(arguments)
    if drops is not None:
        given["speculative_config"] = {**speculation(DraftSettings("", draft_tokens)), "model": drops}
    gpus = 0 if is_for_cpus() else given.get("tensor_parallel_size", 1) * given.get("pipeline_parallel_size", 1)
    if given.get("host", LOOPBACK) not in LOCAL:
        logger.warning("Ray Serve asks for no key: whoever reaches %s may use the model", given["host"])
    config = application_config(source, path, given, replicas, gpus, os.environ)
    folders = tuple(folder for folder in (source, draft) if folder and Path(folder).is_dir())
    return Application(config, folders, gpus, replicas)


def application_config(
    source: str, name: str, given: Mapping[str, Any], replicas: Replicas, gpus: int, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The content of the file.

    source: folder or Hugging Face name of the model, which requests call `name` unless the arguments have another name;
    given: arguments of vLLM's server; gpus: those of a replica, 0 with vLLM's build for CPUs.
    """
    engine = dict(given)
    http = {"host": engine.pop("host", LOOPBACK), "port": engine.pop("port", PORT)}
    names = engine.pop("served_model_name", [name])
    if len(names) > 1:
        raise UserError(f"--served-model-name: Ray Serve knows a model by one name, not {len(names)}; give one")
    model: dict[str, Any] = {"model_loading_config": {"model_id": names[0], "model_source": source}}
    if isinstance(engine.get("speculative_config", {}).get("model"), dict):
        model["server_cls"] = DRAFTING_SERVER
    variables = {key: value for key, value in server_environment(environment).items() if key == "VLLM_PLUGINS"}
    deployment: dict[str, Any] = _scaling(replicas)
    if not gpus:
        # The engine is the replica's own child: the replica itself needs no CPU beside those of the engine, whose
        # threads are as many. Bound to CPUs, those of two replicas would be bound to the same.
        deployment["ray_actor_options"] = {"num_cpus": 0}
        model["placement_group_config"] = {"bundles": [{"CPU": replicas.cpus}]}
        variables |= {"OMP_NUM_THREADS": str(replicas.cpus), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    model |= {"engine_kwargs": engine, "deployment_config": deployment, "runtime_env": {"env_vars": variables}}
    return {
        "proxy_location": "EveryNode",
        "http_options": http,
        "applications": [
            {"name": NAME, "route_prefix": "/", "import_path": BUILDER, "args": {"llm_configs": [model]}},
        ],
    }


def check_ray_serve() -> None:
    """Raise UserError unless all is installed here that Ray Serve LLM imports."""
    if missing := [module for module in MODULES if find_spec(module) is None]:
        raise UserError(
            f"--ray needs {', '.join(missing)}: pip install 'drop-ray[gpu,ray-serve]', or for CPUs "
            "pip install --no-deps -r requirements/cpu-full.lock; on every node"
        )


def _absolute(path: str) -> str:
    """Nodes have other working directories. A Hugging Face name is no path."""
    return str(Path(path).resolve()) if Path(path).exists() else path


def _scaling(replicas: Replicas) -> dict[str, Any]:
    if replicas.least == replicas.most:
        return {"num_replicas": replicas.most}
    return {
        "autoscaling_config": {
            "min_replicas": replicas.least,
            "max_replicas": replicas.most,
            "target_ongoing_requests": REQUESTS_PER_REPLICA,
        }
    }
