"""`drop-ray verify CONFIG`: checks that the bytes of a run's artifacts are still those recorded."""

import argparse
from typing import Any

from drop_ray.commands.arguments import add_command, add_config, read_config


def add(subparsers: Any) -> None:
    text = "read every artifact of a run again, and compare it with its checksums"
    add_config(add_command(subparsers, "verify", text, run))


def run(options: argparse.Namespace) -> int:
    config = read_config(options)
    from drop_ray.job.verify import verify
    from drop_ray.text.console import show

    result = verify(config)
    show([*result.faults, result.summary()])
    return 1 if result.faults else 0
