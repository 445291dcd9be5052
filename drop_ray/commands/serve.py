"""`drop-ray serve CHECKPOINT`: runs vLLM's server for a base or dropped checkpoint, also with a draft, or with Ray."""

import argparse
import sys
from pathlib import Path
from typing import Any

from drop_ray.commands.arguments import add_command
from drop_ray.errors import UserError


def add(subparsers: Any) -> None:
    text = "serve a base or dropped checkpoint with vLLM, by the OpenAI interface"
    command = add_command(subparsers, "serve", text, run)
    command.add_argument("checkpoint", help="folder or Hugging Face name")
    command.add_argument(
        "--draft", metavar="PLAN", help="plan file or dropped checkpoint that drafts for it: the same output, faster"
    )
    command.add_argument(
        "--draft-tokens", type=int, default=3, metavar="K", help="tokens that it drafts, 3 if not given"
    )
    command.add_argument(
        "--ray",
        action="store_true",
        help="as an application of Ray Serve, on the cluster at RAY_ADDRESS or on this machine",
    )
    replicas = command.add_argument_group("with --ray")
    replicas.add_argument("--replicas", type=int, metavar="N", help="number of replicas, 1 if not given")
    replicas.add_argument("--min-replicas", type=int, metavar="N", help="as many at least, and more as requests come")
    replicas.add_argument("--max-replicas", type=int, metavar="N", help="as many at most")
    replicas.add_argument("--cpus", type=int, metavar="N", help="CPUs of a replica, 1 if not given; for a CPU's vLLM")
    replicas.add_argument(
        "--write", type=Path, metavar="FOLDER", help="write its serve_config.yaml there, and run nothing"
    )
    command.add_argument(
        "arguments",
        nargs="*",
        metavar="-- ARGUMENT",
        help="for vLLM's server, such as --port; it listens on this machine only, unless --host says otherwise",
    )


def run(options: argparse.Namespace) -> int:
    if options.ray:
        return _run_with_ray(options)
    for name in ("replicas", "min_replicas", "max_replicas", "cpus", "write"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} is for an application of Ray Serve; give --ray, too")
    from drop_ray.serving.serve import serve

    return serve(options.checkpoint, options.arguments, options.draft, options.draft_tokens)


def _run_with_ray(options: argparse.Namespace) -> int:
    from drop_ray.serving.ray_application import make_application, replicas_of

    replicas = replicas_of(options.replicas, options.min_replicas, options.max_replicas, options.cpus)
    application = make_application(options.checkpoint, options.arguments, replicas, options.draft, options.draft_tokens)
    if options.write is not None:
        print(f"wrote {application.write(options.write)}", file=sys.stderr)
        return 0
    from drop_ray.runtime.serve_application import run_application

    return run_application(application)
