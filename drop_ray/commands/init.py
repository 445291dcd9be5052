"""`drop-ray init MODEL`: a commented config for a model, to run as it is and to edit."""

import argparse
from pathlib import Path
from typing import Any

from drop_ray.commands.arguments import add_command


def add(subparsers: Any) -> None:
    text = "write a commented config for a model, that runs as it is; reads no weights"
    command = add_command(subparsers, "init", text, run)
    command.add_argument("model", help="folder, s3://bucket/prefix or Hugging Face name, as `model.path` of a run")
    command.add_argument("--output", type=Path, metavar="FILE", help="to write; named after the model if not given")


def run(options: argparse.Namespace) -> int:
    from drop_ray.job.first_config import write_first_config

    output = write_first_config(options.model, options.output)
    print(f"wrote {output}; to see what it would do, and to do it:\n")
    print(f"    drop-ray run {output} --dry-run\n    drop-ray run {output}")
    return 0
