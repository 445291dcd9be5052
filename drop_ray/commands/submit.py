"""`drop-ray submit CONFIG --address URL`: runs a config as a job of a Ray cluster."""

import argparse
from typing import Any

from drop_ray.commands.arguments import add_command, add_config, read_config
from drop_ray.commands.run_stages import RUN
from drop_ray.commands.stages import COMMANDS


def add(subparsers: Any) -> None:
    text = "run a config as a job of a Ray cluster, and follow the job to its end; Ctrl-C stops it"
    command = add_command(subparsers, "submit", text, run)
    add_config(command)
    command.add_argument(
        "--address", required=True, help="address of the cluster's dashboard, such as http://HEAD:8265"
    )
    command.add_argument("--stage", choices=COMMANDS, default=RUN, help="the command that the job runs (%(default)s)")
    command.add_argument(
        "--env", action="append", default=[], metavar="NAME", help="give the job this variable of the environment"
    )
    command.add_argument("--no-wait", action="store_true", help="leave when the cluster has taken the job")


def run(options: argparse.Namespace) -> int:
    config = read_config(options)
    from drop_ray.runtime.submit import submit

    return submit(
        config,
        options.config,
        options.overrides,
        options.address,
        options.env,
        options.stage,
        wait=not options.no_wait,
    )
