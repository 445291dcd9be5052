"""The command line: `drop-ray run CONFIG` and the commands beside it. Heavy imports wait until a command needs them."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from drop_ray.commands import (
    compare,
    compare_paper,
    completion,
    doctor,
    gc,
    import_model,
    init,
    inspect,
    push,
    schema,
    serve,
    stages,
    status,
    submit,
    track,
    verify,
)
from drop_ray.commands.parser import Parser
from drop_ray.errors import DropRayError
from drop_ray.runtime.termination import INTERRUPTED, TERMINATED, terminable

# In the order in which the help lists them.
COMMANDS = (
    init,
    doctor,
    stages,
    status,
    compare,
    compare_paper,
    track,
    verify,
    gc,
    submit,
    inspect,
    import_model,
    serve,
    push,
    schema,
    completion,
)

DESCRIPTION = """\
Find the attention layers, MLPs and blocks that a language model does not need, remove them, and measure what it costs.

A run is a YAML file: a model, a text to calibrate on, the plans to try, the tasks to judge them by.

  drop-ray init                                     the demo's config; --example NAME: one of a published model
  drop-ray init MODEL                               a commented config for a model, that runs as it is
  drop-ray doctor my.yaml                           what is installed and in reach, and what the run lacks
  drop-ray run demo.yaml                            every stage: score, plan, export, evaluate, gates, quantize, ...
  drop-ray run my.yaml --dry-run                    what would be done, and how much work it is
  drop-ray run my.yaml --set execution.num_workers=8 --set model.dtype=float32
  drop-ray status my.yaml                           what of it is done; --json for programs
  drop-ray compare my.yaml other.yaml               finished runs side by side: models, calibrations, versions
  drop-ray compare-paper my.yaml                    a finished run of a model of the paper beside its figures
  drop-ray track my.yaml                            a finished run to MLflow or Weights & Biases
  drop-ray verify my.yaml                           whether the bytes of its artifacts are still those recorded
  drop-ray gc my.yaml                               what of its store nobody needs any more; --delete removes it
  drop-ray submit my.yaml --address http://HEAD:8265    as a job of a Ray cluster
  drop-ray export my.yaml --plan attention-8 --output dropped/
  drop-ray inspect MODEL --plan plan.json           what a model is made of, and what a plan would save
  drop-ray import SOURCE OUTPUT                     a Baichuan model, or .bin files, as a checkpoint to run with
  drop-ray serve CHECKPOINT -- --port 8001          vLLM's server for a full or dropped checkpoint
  drop-ray serve BASE --draft plan.json             the same with a draft: the base's own output, faster
  drop-ray serve CHECKPOINT --ray --replicas 4      the same by Ray Serve; --write writes what a RayService takes
  drop-ray push my.yaml attention-8 --to me/my-model    a checkpoint and its model card to the Hugging Face hub
  drop-ray schema                                   the JSON schema of a run's file, for editors
  drop-ray completion bash                          what bash, zsh or fish needs to complete all of this

What is done is never done again: run the same command after a crash, or with another plan added to the file.
Exit codes: 0 done; 1 the work failed; 2 something is wrong with the input, and nothing was started.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    from drop_ray.text.console import log_handler

    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING, handlers=[log_handler()])
    # In their debug messages are the headers of requests, session tokens among them.
    for library in ("botocore", "aiobotocore"):
        logging.getLogger(library).setLevel(logging.INFO if options.verbose else logging.WARNING)
    # Importing torchao, which gptqmodel brings, makes torch warn of torchao's own types.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    # lm-eval warns of every task of one's own that it takes no `--metadata`, and which defaults its YAML leaves.
    logging.getLogger("lm_eval.api.task").setLevel(logging.WARNING if options.verbose else logging.ERROR)
    logging.getLogger("drop_ray").setLevel(logging.DEBUG if options.verbose else logging.INFO)
    with terminable() as termination:
        try:
            code: int = options.run(options)
            return code
        except DropRayError as error:
            print("\n".join([f"drop-ray: {error}", *_notes(error)]), file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt as error:
            what, code = ("terminated", TERMINATED) if termination.received else ("interrupted", INTERRUPTED)
            text = f"drop-ray: {what}; run the same command again to go on"
            print("\n".join([text, *_notes(error)]), file=sys.stderr)
            return code


def _notes(error: BaseException) -> Sequence[str]:
    """What is kept of the work, and where its log is."""
    return getattr(error, "__notes__", ())


def console(arguments: Sequence[str] | None = None) -> NoReturn:
    """The program `drop-ray`: `main`, then the end of the process."""
    code = main(arguments)
    if code == TERMINATED:
        # Python takes more than a second to take torch apart, and whoever sends SIGTERM kills soon after.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def make_parser() -> Parser:
    """All commands with their arguments."""
    parser = Parser(prog="drop-ray", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-v", "--verbose", action="store_true", help="also say what the libraries say")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(subparsers)
    parser.commands = dict(subparsers.choices)
    parser.set_defaults(parser=parser)  # for the command that tells shells of all others
    return parser
