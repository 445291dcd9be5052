"""Arguments that several commands share, and reading the config that they name."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

    from drop_ray.config import RunConfig


class Result(Protocol):
    """What a command found."""

    def lines(self, console: "Console") -> Iterator[str]:
        """The lines for people."""
        ...

    def as_json(self) -> dict[str, Any]:
        """The same for programs, in plain values; sizes are in bytes."""
        ...


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


def read_config_to_run(options: argparse.Namespace) -> "RunConfig":
    """As `read_config`, for work on this machine: before imports that take seconds, its paths are looked at too."""
    from drop_ray.config.places import check_places

    config = read_config(options)
    check_places(config)
    return config


def add_json(command: argparse.ArgumentParser, verb: str = "print") -> None:
    command.add_argument("--json", action="store_true", help=f"{verb} one JSON object, for programs; sizes in bytes")


def show_result(result: Result, as_json: bool) -> None:
    """Print what a command found: for people, or as one JSON object."""
    from drop_ray.text.console import console_of, show

    if as_json:
        show([json.dumps(result.as_json(), indent=1, ensure_ascii=False)])
    else:
        show(result.lines(console_of(sys.stdout)))
