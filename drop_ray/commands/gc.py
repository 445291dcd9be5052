"""`drop-ray gc CONFIG_OR_STORE`: lists and removes the files of a store that nobody needs any more."""

import argparse
import sys
from typing import Any

from drop_ray.commands.arguments import add_command


def add(subparsers: Any) -> None:
    text = "list the files of a store that nobody needs any more: leftovers of killed processes, artifacts of no run"
    command = add_command(subparsers, "gc", text, run)
    command.add_argument("target", metavar="CONFIG_OR_STORE", help="a run's YAML file, or a store's folder or URL")
    command.add_argument("--delete", action="store_true", help="remove these files")
    command.add_argument("--older-than", default="24h", metavar="AGE", help="leave younger files alone (%(default)s)")


def run(options: argparse.Namespace) -> int:
    from drop_ray.job.garbage import gc_lines
    from drop_ray.text.console import console_of, show

    show(gc_lines(options.target, options.older_than, options.delete, console_of(sys.stdout)))
    return 0
