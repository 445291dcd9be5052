"""What each command does: parsed options in, exit code out. Heavy imports wait until a command needs them."""

import argparse
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

from drop_ray.errors import UserError

if TYPE_CHECKING:
    from drop_ray.config import RunConfig


def run(options: argparse.Namespace) -> int:
    if not options.dry_run:
        return run_stages(options)
    from drop_ray.forecast import forecast_lines

    print("\n".join(forecast_lines(_config(options))))
    return 0


def run_stages(options: argparse.Namespace) -> int:
    from drop_ray.pipeline import run as run_pipeline
    from drop_ray.summary import outcome_lines

    until = "report" if options.command == "run" else options.command
    outcome = run_pipeline(_config(options), until, options.reuse)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
    print("\n".join(outcome_lines(outcome, shutil.get_terminal_size().columns, colour)))
    return 0


def export(options: argparse.Namespace) -> int:
    if not (options.plan or options.output or options.format):
        return run_stages(options)
    if not (options.plan and options.output):
        raise UserError("--plan and --output go together, and --format with them; a run has `export_formats`")
    from drop_ray.single_export import export_plan

    export_plan(_config(options), options.plan, options.output, options.format or "dropped")
    print(f"wrote {options.output}")
    return 0


def bench(options: argparse.Namespace) -> int:
    if not (options.server or options.request_rate):
        return run_stages(options)
    if not (options.server and options.request_rate):
        raise UserError("--server and --request-rate go together")
    from drop_ray.serving.load_test import load_test_rows

    for row in load_test_rows(_config(options), options.server, options.request_rate, options.requests):
        print(json.dumps(row), flush=True)
    return 0


def status(options: argparse.Namespace) -> int:
    from drop_ray.status import status_lines

    print("\n".join(status_lines(_config(options))))
    return 0


def submit(options: argparse.Namespace) -> int:
    from drop_ray.runtime.submit import submit as submit_job

    return submit_job(
        options.config, options.overrides, options.address, options.env, options.stage, wait=not options.no_wait
    )


def verify(options: argparse.Namespace) -> int:
    from drop_ray.verify import verify as verify_run

    result = verify_run(_config(options))
    for fault in result.faults:
        print(fault)
    print(result.summary())
    return 1 if result.faults else 0


def gc(options: argparse.Namespace) -> int:
    from drop_ray.garbage import gc_lines

    for line in gc_lines(options.target, options.older_than, options.delete):
        print(line, flush=True)
    return 0


def inspect(options: argparse.Namespace) -> int:
    from drop_ray.inspection import inspect_lines

    sequences = {"num_tokens": options.tokens, "batch_size": options.batch_size}
    for line in inspect_lines(
        options.model, options.revision, options.plan, allow_unlisted=options.allow_unlisted, **sequences
    ):
        print(line)
    return 0


def import_model(options: argparse.Namespace) -> int:
    from drop_ray.single_import import import_model as write

    write(options.source, options.revision, options.output)
    print(f"wrote {options.output}; to run with it:\nmodel.path: {options.output}")
    return 0


def serve(options: argparse.Namespace) -> int:
    from drop_ray.serving.serve import serve as run_server

    run_server(options.checkpoint, options.arguments)


def _config(options: argparse.Namespace) -> "RunConfig":
    from drop_ray.config import load_config

    return load_config(options.config, options.overrides)
