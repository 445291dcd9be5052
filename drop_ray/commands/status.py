"""`drop-ray status CONFIG`: shows the units of a run, and which of them are done."""

import argparse
from typing import Any

from drop_ray.commands.arguments import add_command, add_config, add_json, read_config, show_result
from drop_ray.stages.catalog import STAGES


def add(subparsers: Any) -> None:
    command = add_command(subparsers, "status", "show a run: its units, what is done, sizes", run)
    add_config(command)
    add_json(command)


def run(options: argparse.Namespace) -> int:
    config = read_config(options)
    from drop_ray.job.status import run_status

    show_result(run_status(config, [stage.name for stage in STAGES]), options.json)
    return 0
