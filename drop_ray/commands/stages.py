"""One command per stage, which runs the pipeline up to that stage. `run` runs all of it, or a dry run."""

import argparse
import sys
from typing import Any

from drop_ray.commands import bench, export
from drop_ray.commands.arguments import add_command, add_config, read_config
from drop_ray.commands.run_stages import RUN, run_stages
from drop_ray.stages.catalog import STAGES

COMMANDS = {
    RUN: f"do everything: {', '.join(stage.name for stage in STAGES)}",
    **{stage.name: stage.help for stage in STAGES},
}


def add(subparsers: Any) -> None:
    # What some of them take besides.
    further = {RUN: _add_dry_run, "export": export.add_arguments, "bench": bench.add_arguments}
    for name, text in COMMANDS.items():
        command = add_command(subparsers, name, text, run_stages)
        add_config(command)
        command.add_argument("--reuse", action="store_true", help="take results made with other library versions")
        if name in further:
            further[name](command)


def _add_dry_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="list the steps to do, with bytes and FLOPs")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if not options.dry_run:
        return run_stages(options)
    config = read_config(options)
    from drop_ray.stages.forecast import forecast_lines
    from drop_ray.text.console import console_of, show

    show(forecast_lines(config, console_of(sys.stdout)))
    return 0
