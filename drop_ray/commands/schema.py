"""`drop-ray schema`: prints the JSON schema of a run's config, for editors."""

import argparse
import json
from typing import Any

from drop_ray.commands.arguments import add_command


def add(subparsers: Any) -> None:
    add_command(subparsers, "schema", "print the JSON schema of a run's YAML file, for editors", run)


def run(_: argparse.Namespace) -> int:
    from drop_ray.config.schema import run_schema

    print(json.dumps(run_schema(), indent=2))
    return 0
