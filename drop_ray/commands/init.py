"""`drop-ray init MODEL`: writes a commented config for a model, which runs as it is and can be edited."""

import argparse
from pathlib import Path
from typing import Any

from drop_ray.commands.arguments import add_command


def add(subparsers: Any) -> None:
    text = "write a commented config for a model, that runs as it is; reads no weights"
    command = add_command(subparsers, "init", text, run)
    command.add_argument("model", help="folder, s3://bucket/prefix or Hugging Face name, as `model.path` of a run")
    command.add_argument("--output", type=Path, metavar="FILE", help="file to write; by default named after the model")


def run(options: argparse.Namespace) -> int:
    from drop_ray.job.first_config import write_first_config

    output = write_first_config(options.model, options.output)
    print(f"wrote {output}; to see what it would do, and to do it:\n")
    print(f"    drop-ray run {output} --dry-run\n    drop-ray run {output}")
    return 0
