"""`drop-ray status CONFIG`: shows the units of a run, and which of them are done."""

import argparse
import sys
from typing import Any

from drop_ray.commands.arguments import add_command, add_config, read_config
from drop_ray.stages.catalog import STAGES


def add(subparsers: Any) -> None:
    add_config(add_command(subparsers, "status", "show a run: its units, what is done, sizes", run))


def run(options: argparse.Namespace) -> int:
    config = read_config(options)
    from drop_ray.job.status import status_lines
    from drop_ray.text.console import console_of, show

    stages = [stage.name for stage in STAGES]
    show(status_lines(config, stages, console_of(sys.stdout)))
    return 0
