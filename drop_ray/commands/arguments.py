"""Arguments that several commands share, and reading the config that they name."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drop_ray.config import RunConfig


def add_command(
    subparsers: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Add a command. text: what it does, for the list of commands and for its own help."""
    command: argparse.ArgumentParser = subparsers.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", type=Path, help="the run's YAML file")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        dest="overrides",
        help="override a field of the config, e.g. --set calibration.num_samples=64 --set plans.0.drop=[2,4]",
    )


def read_config(options: argparse.Namespace) -> "RunConfig":
    from drop_ray.config import load_config

    return load_config(options.config, options.overrides)
