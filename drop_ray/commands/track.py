"""`drop-ray track CONFIG`: log a finished run to MLflow or Weights & Biases, as its config's `tracking` says."""

import argparse
from typing import Any

from drop_ray.commands.arguments import add_command, add_config, read_config
from drop_ray.errors import UserError


def add(subparsers: Any) -> None:
    command = add_command(subparsers, "track", "log a finished run to MLflow or Weights & Biases", run)
    add_config(command)


def run(options: argparse.Namespace) -> int:
    config = read_config(options)
    from drop_ray.sharing.tracking import check_installed, track

    if config.tracking is None:
        raise UserError(
            "the config has no `tracking`; add it, or give it here, as --set 'tracking={mlflow: {uri: mlruns}}'"
        )
    check_installed(config.tracking)
    logged = track(config)
    for one in logged:
        print(one.line)
    return int(any(one.failed for one in logged))
