"""`drop-ray doctor [CONFIG]`: what is installed and in reach here, and what a run lacks."""

import argparse
from pathlib import Path
from typing import Any

from drop_ray.commands.arguments import add_command, add_json, read_config, show_result


def add(subparsers: Any) -> None:
    text = "show what is installed and in reach here, and what a run lacks"
    command = add_command(subparsers, "doctor", text, run)
    command.add_argument("config", type=Path, nargs="?", help="the run's YAML file; without one this machine alone")
    command.set_defaults(overrides=[])
    add_json(command)


def run(options: argparse.Namespace) -> int:
    config = read_config(options) if options.config else None
    from drop_ray.stages.doctor import diagnose

    found = diagnose(config)
    show_result(found, options.json)
    return 0 if found.is_well else 1
