"""`drop-ray export CONFIG`: the stage export, or with `--plan` and `--output` one checkpoint to a folder."""

import argparse
from pathlib import Path

from drop_ray.commands.arguments import read_config
from drop_ray.commands.run_stages import run_stages
from drop_ray.errors import UserError
from drop_ray.models.export_formats import EXPORT_FORMATS


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--plan", help="name of one of the run's plans, or a plan file")
    command.add_argument("--output", type=Path, help="new folder to write that plan's checkpoint to")
    command.add_argument("--format", choices=EXPORT_FORMATS, help="format of that checkpoint; dropped by default")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if not (options.plan or options.output or options.format):
        return run_stages(options)
    if not (options.plan and options.output):
        raise UserError("--plan and --output go together, and --format with them; a run has `export_formats`")
    config = read_config(options)
    from drop_ray import api

    api.export(config, options.plan, options.output, options.format or "dropped")
    print(f"wrote {options.output}")
    return 0
