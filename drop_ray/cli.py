"""The command line: `drop-ray run CONFIG` and the commands beside it. Heavy imports wait until a command needs them."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from drop_ray import commands
from drop_ray.errors import DropRayError
from drop_ray.models.export_formats import EXPORT_FORMATS
from drop_ray.progress import REWRITE_LINE
from drop_ray.termination import INTERRUPTED, TERMINATED, terminable

DESCRIPTION = """\
Find the attention layers, MLPs and blocks that a language model does not need, remove them, and measure what it costs.

A run is a YAML file: a model, a text to calibrate on, the plans to try, the tasks to judge them by.

  drop-ray run jobs/configs/demo.yaml               everything: score, plan, export, evaluate, quantize, bench, report
  drop-ray run my.yaml --dry-run                    what would be done, and how much work it is
  drop-ray run my.yaml --set execution.num_workers=8 --set model.dtype=float32
  drop-ray status my.yaml                           what of it is done
  drop-ray verify my.yaml                           whether the bytes of its artifacts are still those recorded
  drop-ray gc my.yaml                               what of its store nobody needs any more; --delete removes it
  drop-ray submit my.yaml --address http://HEAD:8265    as a job of a Ray cluster
  drop-ray export my.yaml --plan attention-8 --output dropped/
  drop-ray inspect MODEL --plan plan.json           what a model is made of, and what a plan would save
  drop-ray import SOURCE OUTPUT                     a Baichuan model, or .bin files, as a checkpoint to run with
  drop-ray serve CHECKPOINT -- --port 8001          vLLM's server for a full or dropped checkpoint

What is done is never done again: run the same command after a crash, or with another plan added to the file.
Exit codes: 0 done; 1 the work failed; 2 something is wrong with the input, and nothing was started.
"""
STAGES = {
    "run": "do everything: score, plan, export, evaluate, quantize, bench, report",
    "score": "score every attention layer, MLP and block, and stop",
    "plan": "score and make the drop plans, and stop",
    "export": "write the checkpoints that the config exports, or one plan's to a folder",
    "evaluate": "do everything up to the evaluation in 16 bits, and stop",
    "quantize": "do everything up to the quantized checkpoints and their evaluation, and stop",
    "bench": "do everything but the report, serving speed included",
    "report": "as run: what is done is not done again, so this writes the report anew",
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
    # Importing torchao, which gptqmodel brings, makes torch warn of torchao's own types.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    logging.getLogger("drop_ray").setLevel(logging.DEBUG if options.verbose else logging.INFO)
    with terminable() as termination:
        try:
            code: int = options.run(options)
            return code
        except DropRayError as error:
            print(f"drop-ray: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            what, code = ("terminated", TERMINATED) if termination.received else ("interrupted", INTERRUPTED)
            print(f"drop-ray: {what}; run the same command again to go on", file=sys.stderr)
            return code


def console(arguments: Sequence[str] | None = None) -> NoReturn:
    """The program `drop-ray`: `main`, then the end of the process."""
    code = main(arguments)
    if code == TERMINATED:
        # Python takes more than a second to take torch apart, and whoever sends SIGTERM kills soon after.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="drop-ray", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="also say what the libraries say")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in STAGES.items():
        command = _add_command(subparsers, name, text, commands.run_stages)
        _add_config(command)
        command.add_argument("--reuse", action="store_true", help="take what was done with other library versions")
        if name == "run":
            command.add_argument("--dry-run", action="store_true", help="list the steps to do, with bytes and FLOPs")
            command.set_defaults(run=commands.run)
        if name == "export":
            command.add_argument("--plan", help="name of one of the run's plans, or a plan file")
            command.add_argument("--output", type=Path, help="new folder to write that plan's checkpoint to")
            command.add_argument("--format", choices=EXPORT_FORMATS, help="of that checkpoint; dropped by default")
            command.set_defaults(run=commands.export)
        if name == "bench":
            command.add_argument("--server", metavar="URL", help="instead, load a running server with the workloads")
            command.add_argument("--request-rate", type=_rates, metavar="R,R,...", help="requests a second to send it")
            command.add_argument("--requests", type=int, default=100, help="how many at each rate")
            command.set_defaults(run=commands.bench)
    text = "show a run: its units, what is done, sizes"
    _add_config(_add_command(subparsers, "status", text, commands.status))
    text = "read every artifact of a run again, and compare it with its checksums"
    _add_config(_add_command(subparsers, "verify", text, commands.verify))
    _add_gc(subparsers)
    _add_submit(subparsers)
    _add_inspect(subparsers)
    _add_import(subparsers)
    _add_serve(subparsers)
    return parser


def _add_command(
    subparsers: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = subparsers.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", type=Path, help="the run's YAML file")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=VALUE",
        dest="overrides",
        help="override a field of the config, e.g. --set calibration.num_samples=64 --set plans.0.drop=[2,4]",
    )


def _rates(text: str) -> tuple[float, ...]:
    rates = tuple(map(float, text.split(",")))
    if any(rate <= 0 for rate in rates):
        raise ValueError
    return rates


def _add_submit(subparsers: Any) -> None:
    text = "run it as a job of a Ray cluster, and follow the job to its end; Ctrl-C stops it"
    command = _add_command(subparsers, "submit", text, commands.submit)
    _add_config(command)
    command.add_argument("--address", required=True, help="of the cluster's dashboard, such as http://HEAD:8265")
    command.add_argument("--stage", choices=STAGES, default="run", help="the command that the job runs (%(default)s)")
    command.add_argument(
        "--env", action="append", default=[], metavar="NAME", help="give the job this variable of the environment"
    )
    command.add_argument("--no-wait", action="store_true", help="leave when the cluster has taken the job")


def _add_gc(subparsers: Any) -> None:
    text = "list what of a store nobody needs any more: leftovers of what was killed, artifacts of no run"
    command = _add_command(subparsers, "gc", text, commands.gc)
    command.add_argument("target", metavar="CONFIG_OR_STORE", help="a run's YAML file, or a store's folder or URL")
    command.add_argument("--delete", action="store_true", help="remove it")
    command.add_argument(
        "--older-than", default="24h", metavar="AGE", help="leave alone what was written since then (%(default)s)"
    )


def _add_inspect(subparsers: Any) -> None:
    text = "show what a model is made of and what a plan would save; reads no weights"
    command = _add_command(subparsers, "inspect", text, commands.inspect)
    command.add_argument("model", help="folder, s3://bucket/prefix or Hugging Face name; config.json is enough")
    command.add_argument("--revision", help="branch, tag or commit of a Hugging Face name; subfolder of a folder")
    command.add_argument("--plan", type=Path, help="a plan file")
    command.add_argument("--tokens", type=int, default=2048, help="length of the sequences whose KV cache is shown")
    command.add_argument("--batch-size", type=int, default=1, help="how many of them")
    command.add_argument("--allow-unlisted", action="store_true", help="as model.allow_unlisted of a run")


def _add_import(subparsers: Any) -> None:
    text = "write a Baichuan-7B or Baichuan2-7B model as a Llama checkpoint, or .bin files as safetensors"
    command = _add_command(subparsers, "import", text, commands.import_model)
    command.add_argument("source", help="folder, s3://bucket/prefix or Hugging Face name")
    command.add_argument("output", type=Path, help="new folder to write the checkpoint to")
    command.add_argument("--revision", help="branch, tag or commit of a Hugging Face name; subfolder of a folder")


def _add_serve(subparsers: Any) -> None:
    text = "serve a full or dropped checkpoint with vLLM, by the OpenAI interface"
    command = _add_command(subparsers, "serve", text, commands.serve)
    command.add_argument("checkpoint", help="folder or Hugging Face name")
    command.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="for vLLM's server, such as --port")
