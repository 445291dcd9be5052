"""The command line: `drop-ray run CONFIG` and the commands beside it. Heavy imports wait until a command needs them."""

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drop_ray.errors import DropRayError, UserError
from drop_ray.models.export_formats import EXPORT_FORMATS
from drop_ray.progress import REWRITE_LINE

DESCRIPTION = """\
Find the attention layers, MLPs and blocks that a language model does not need, remove them, and measure what it costs.

A run is a YAML file: a model, a text to calibrate on, the plans to try, the tasks to judge them by.

  drop-ray run jobs/configs/demo.yaml               everything: score, plan, export, evaluate, report
  drop-ray run my.yaml --dry-run                    what would be done, and how much work it is
  drop-ray run my.yaml --set execution.num_workers=8 --set model.dtype=float32
  drop-ray status my.yaml                           what of it is done
  drop-ray export my.yaml --plan attention-8 --output dropped/
  drop-ray inspect MODEL --plan plan.json           what a model is made of, and what a plan would save
  drop-ray import SOURCE OUTPUT                     a Baichuan model, or .bin files, as a checkpoint to run with
  drop-ray serve CHECKPOINT -- --port 8001          vLLM's server for a full or dropped checkpoint

What is done is never done again: run the same command after a crash, or with another plan added to the file.
Exit codes: 0 done; 1 the work failed; 2 something is wrong with the input, and nothing was started.
"""
COMMANDS = {
    "run": "do everything: score, plan, export, evaluate, report",
    "score": "score every attention layer, MLP and block, and stop",
    "plan": "score and make the drop plans, and stop",
    "export": "write the checkpoints that the config exports, or one plan's to a folder",
    "evaluate": "do everything but the benchmark and the report",
    "bench": "do everything but the report, serving speed included",
    "report": "as run: what is done is not done again, so this writes the report anew",
    "status": "show a run: its units, what is done, sizes",
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        # A message may come while a progress line stands in the terminal.
        format=(REWRITE_LINE if sys.stderr.isatty() else "") + "%(asctime)s %(levelname).1s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("drop_ray").setLevel(logging.DEBUG if options.verbose else logging.INFO)
    try:
        return _dispatch(options)
    except DropRayError as error:
        print(f"drop-ray: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("drop-ray: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="drop-ray", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="also say what the libraries say")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("config", type=Path, help="the run's YAML file")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="A.B=VALUE",
            dest="overrides",
            help="override a field of the config, e.g. --set calibration.num_samples=64 --set plans.0.drop=[2,4]",
        )
        if name != "status":
            command.add_argument("--reuse", action="store_true", help="take what was done with other library versions")
        if name == "run":
            command.add_argument("--dry-run", action="store_true", help="list the steps to do, with bytes and FLOPs")
        if name == "export":
            command.add_argument("--plan", help="name of one of the run's plans, or a plan file")
            command.add_argument("--output", type=Path, help="new folder to write that plan's checkpoint to")
            command.add_argument("--format", choices=EXPORT_FORMATS, help="of that checkpoint; dropped by default")
        if name == "bench":
            command.add_argument("--server", metavar="URL", help="instead, load a running server with the workloads")
            command.add_argument("--request-rate", type=_rates, metavar="R,R,...", help="requests a second to send it")
            command.add_argument("--requests", type=int, default=100, help="how many at each rate")
    _add_inspect(commands)
    _add_import(commands)
    _add_serve(commands)
    return parser


def _rates(text: str) -> tuple[float, ...]:
    rates = tuple(map(float, text.split(",")))
    if any(rate <= 0 for rate in rates):
        raise ValueError
    return rates


def _add_inspect(commands: Any) -> None:
    text = "show what a model is made of and what a plan would save; reads no weights"
    command = commands.add_parser("inspect", help=text, description=text)
    command.add_argument("model", help="folder, s3://bucket/prefix or Hugging Face name; config.json is enough")
    command.add_argument("--revision", help="branch, tag or commit of a Hugging Face name; subfolder of a folder")
    command.add_argument("--plan", type=Path, help="a plan file")
    command.add_argument("--tokens", type=int, default=2048, help="length of the sequences whose KV cache is shown")
    command.add_argument("--batch-size", type=int, default=1, help="how many of them")
    command.add_argument("--allow-unlisted", action="store_true", help="as model.allow_unlisted of a run")


def _add_import(commands: Any) -> None:
    text = "write a Baichuan-7B or Baichuan2-7B model as a Llama checkpoint, or .bin files as safetensors"
    command = commands.add_parser("import", help=text, description=text)
    command.add_argument("source", help="folder, s3://bucket/prefix or Hugging Face name")
    command.add_argument("output", type=Path, help="new folder to write the checkpoint to")
    command.add_argument("--revision", help="branch, tag or commit of a Hugging Face name; subfolder of a folder")


def _add_serve(commands: Any) -> None:
    text = "serve a full or dropped checkpoint with vLLM, by the OpenAI interface"
    command = commands.add_parser("serve", help=text, description=text)
    command.add_argument("checkpoint", help="folder or Hugging Face name")
    command.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="for vLLM's server, such as --port")


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "inspect":
        from drop_ray.inspection import inspect_lines

        sequences = {"num_tokens": options.tokens, "batch_size": options.batch_size}
        for line in inspect_lines(
            options.model, options.revision, options.plan, allow_unlisted=options.allow_unlisted, **sequences
        ):
            print(line)
        return 0

    if options.command == "import":
        from drop_ray.single_import import import_model

        import_model(options.source, options.revision, options.output)
        print(f"wrote {options.output}; to run with it:\nmodel.path: {options.output}")
        return 0

    if options.command == "serve":
        from drop_ray.serving.serve import serve

        serve(options.checkpoint, options.arguments)

    from drop_ray.config import load_config

    config = load_config(options.config, options.overrides)
    if options.command == "status":
        from drop_ray.status import status_lines

        print("\n".join(status_lines(config)))
        return 0
    if options.command == "run" and options.dry_run:
        from drop_ray.forecast import forecast_lines

        print("\n".join(forecast_lines(config)))
        return 0
    if options.command == "bench" and (options.server or options.request_rate):
        if not (options.server and options.request_rate):
            raise UserError("--server and --request-rate go together")
        from drop_ray.serving.load_test import load_test_rows

        for row in load_test_rows(config, options.server, options.request_rate, options.requests):
            print(json.dumps(row), flush=True)
        return 0
    if options.command == "export" and (options.plan or options.output or options.format):
        if not (options.plan and options.output):
            raise UserError("--plan and --output go together, and --format with them; a run has `export_formats`")
        from drop_ray.single_export import export_plan

        export_plan(config, options.plan, options.output, options.format or "dropped")
        print(f"wrote {options.output}")
        return 0

    from drop_ray.pipeline import run
    from drop_ray.summary import outcome_lines

    until = "report" if options.command == "run" else options.command
    outcome = run(config, until, options.reuse)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
    print("\n".join(outcome_lines(outcome, shutil.get_terminal_size().columns, colour)))
    return 0
