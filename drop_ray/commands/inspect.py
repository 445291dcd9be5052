"""`drop-ray inspect MODEL`: shows the parts of a model, and what a plan would save."""

import argparse
from pathlib import Path
from typing import Any

from drop_ray.commands.arguments import add_command, add_json, show_result


def add(subparsers: Any) -> None:
    text = "show the parts of a model and what a plan would save; reads no weights"
    command = add_command(subparsers, "inspect", text, run)
    command.add_argument("model", help="folder, s3://bucket/prefix or Hugging Face name; config.json is enough")
    command.add_argument("--revision", help="branch, tag or commit of a Hugging Face name; subfolder of a folder")
    command.add_argument("--plan", type=Path, help="a plan file")
    command.add_argument("--tokens", type=int, default=2048, help="length of the sequences whose KV cache is shown")
    command.add_argument("--batch-size", type=int, default=1, help="number of these sequences")
    command.add_argument("--allow-unlisted", action="store_true", help="as model.allow_unlisted of a run")
    add_json(command)


def run(options: argparse.Namespace) -> int:
    from drop_ray.planning.inspection import inspect_model

    found = inspect_model(
        options.model,
        options.revision,
        options.plan,
        num_tokens=options.tokens,
        batch_size=options.batch_size,
        allow_unlisted=options.allow_unlisted,
    )
    show_result(found, options.json)
    return 0
