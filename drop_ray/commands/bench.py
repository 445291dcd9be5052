"""`drop-ray bench CONFIG`: the stage bench, or with `--server` a load test of a running server."""

import argparse
import json

from drop_ray.commands.arguments import read_config
from drop_ray.commands.run_stages import run_stages
from drop_ray.errors import UserError


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--server", metavar="URL", help="send the workloads to a running server instead")
    command.add_argument("--request-rate", type=_rates, metavar="R,R,...", help="requests per second to send")
    command.add_argument("--requests", type=int, default=100, help="number of requests at each rate")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if not (options.server or options.request_rate):
        return run_stages(options)
    if not (options.server and options.request_rate):
        raise UserError("--server and --request-rate go together")
    config = read_config(options)
    from drop_ray.serving.load_test import load_test_rows

    for row in load_test_rows(config, options.server, options.request_rate, options.requests):
        print(json.dumps(row), flush=True)
    return 0


def _rates(text: str) -> tuple[float, ...]:
    rates = tuple(map(float, text.split(",")))
    if any(rate <= 0 for rate in rates):
        raise ValueError
    return rates
