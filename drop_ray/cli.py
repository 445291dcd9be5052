"""The command line: `drop-ray run CONFIG` and the commands beside it. Heavy imports wait until a command needs them."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from drop_ray.errors import DropRayError, UserError
from drop_ray.progress import REWRITE_LINE

DESCRIPTION = """\
Find the attention layers, MLPs and blocks that a language model does not need, remove them, and measure what it costs.

A run is a YAML file: a model, a text to calibrate on, the plans to try, the tasks to judge them by.

  drop-ray run jobs/configs/demo.yaml               everything: score, plan, export, evaluate, report
  drop-ray run my.yaml --dry-run                    what would be done, and how much work it is
  drop-ray run my.yaml --set execution.num_workers=8 --set model.dtype=float32
  drop-ray status my.yaml                           what of it is done
  drop-ray export my.yaml --plan attention-8 --output dropped/

What is done is never done again: run the same command after a crash, or with another plan added to the file.
Exit codes: 0 done; 1 the work failed; 2 something is wrong with the input, and nothing was started.
"""
COMMANDS = {
    "run": "do everything: score, plan, export, evaluate, report",
    "score": "score every attention layer, MLP and block, and stop",
    "plan": "score and make the drop plans, and stop",
    "export": "write the checkpoints that the config exports, or one plan's to a folder",
    "evaluate": "do everything but the report",
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
    return parser


def _dispatch(options: argparse.Namespace) -> int:
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
    if options.command == "export" and (options.plan or options.output):
        if not (options.plan and options.output):
            raise UserError("--plan and --output go together")
        from drop_ray.single_export import export_plan

        export_plan(config, options.plan, options.output)
        print(f"wrote {options.output}")
        return 0

    from drop_ray.pipeline import run
    from drop_ray.summary import outcome_lines

    until = "report" if options.command == "run" else options.command
    print("\n".join(outcome_lines(run(config, until, options.reuse))))
    return 0
