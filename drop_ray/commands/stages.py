"""A command for every stage: the pipeline up to it. `run` is all of them, with a dry run beside."""

import argparse
import sys
from typing import Any

from drop_ray.commands.arguments import add_command, add_config, read_config
from drop_ray.stages.catalog import LAST, STAGES

RUN = "run"
COMMANDS = {
    RUN: f"do everything: {', '.join(stage.name for stage in STAGES)}",
    **{stage.name: stage.help for stage in STAGES},
}


def add(subparsers: Any) -> None:
    from drop_ray.commands import bench, export

    # What some of them take besides.
    further = {RUN: _add_dry_run, "export": export.add_arguments, "bench": bench.add_arguments}
    for name, text in COMMANDS.items():
        command = add_command(subparsers, name, text, run_stages)
        add_config(command)
        command.add_argument("--reuse", action="store_true", help="take what was done with other library versions")
        if name in further:
            further[name](command)


def run_stages(options: argparse.Namespace) -> int:
    from drop_ray.commands.summary import outcome_lines
    from drop_ray.pipeline import run
    from drop_ray.text.console import console_of, show

    until = LAST if options.command == RUN else options.command
    outcome = run(read_config(options), until, options.reuse)
    show(outcome_lines(outcome, console_of(sys.stdout)))
    return 0


def _add_dry_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="list the steps to do, with bytes and FLOPs")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if not options.dry_run:
        return run_stages(options)
    from drop_ray.stages.forecast import forecast_lines
    from drop_ray.text.console import console_of, show

    show(forecast_lines(read_config(options), console_of(sys.stdout)))
    return 0
