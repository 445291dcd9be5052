"""`drop-ray serve CHECKPOINT`: runs vLLM's server for a base or dropped checkpoint."""

import argparse
from typing import Any

from drop_ray.commands.arguments import add_command


def add(subparsers: Any) -> None:
    text = "serve a base or dropped checkpoint with vLLM, by the OpenAI interface"
    command = add_command(subparsers, "serve", text, run)
    command.add_argument("checkpoint", help="folder or Hugging Face name")
    command.add_argument(
        "arguments",
        nargs="*",
        metavar="-- ARGUMENT",
        help="for vLLM's server, such as --port; it listens on this machine only, unless --host says otherwise",
    )


def run(options: argparse.Namespace) -> int:
    from drop_ray.serving.serve import serve

    serve(options.checkpoint, options.arguments)
