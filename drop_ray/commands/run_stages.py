"""What the commands of the stages do: the pipeline up to one of them, then what it came to."""

import argparse
import sys

from drop_ray.commands.arguments import read_config_to_run
from drop_ray.stages.catalog import LAST

RUN = "run"
"""The command that does all of them."""


def run_stages(options: argparse.Namespace) -> int:
    config = read_config_to_run(options)
    from drop_ray.commands.summary import outcome_lines
    from drop_ray.pipeline import run
    from drop_ray.text.console import console_of, show

    until = LAST if options.command == RUN else options.command
    outcome = run(config, until, options.reuse)
    show(outcome_lines(outcome, console_of(sys.stdout)))
    return 0
