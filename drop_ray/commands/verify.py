"""`drop-ray verify CONFIG`: checks that the bytes of a run's artifacts are still those recorded."""

import argparse
from typing import Any

from drop_ray.commands.arguments import add_command, add_config, add_json, read_config, show_result


def add(subparsers: Any) -> None:
    text = "read every artifact of a run again, and compare it with its checksums"
    command = add_command(subparsers, "verify", text, run)
    add_config(command)
    add_json(command)


def run(options: argparse.Namespace) -> int:
    config = read_config(options)
    from drop_ray.job.verify import verify

    result = verify(config)
    show_result(result, options.json)
    return 1 if result.faults else 0
