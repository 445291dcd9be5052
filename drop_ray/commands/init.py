"""`drop-ray init`: writes a config to begin with: for a model, of the demo, or an example that comes with drop_ray."""

import argparse
from pathlib import Path
from typing import Any

from drop_ray.commands.arguments import add_command
from drop_ray.commands.examples import DEMO, example_names, write_example
from drop_ray.commands.new_config import check_new_config, config_of, write_new_config
from drop_ray.errors import UserError

FOR_A_MODEL = """\
the demo, with every field explained:        drop-ray init demo:model
a config for your own model:                 drop-ray init MODEL
another of the examples, such as llama3_8b:  drop-ray init --example NAME
"""


def add(subparsers: Any) -> None:
    text = "write a config that runs as it is: for a model, or of the demo if none is given; reads no weights"
    command = add_command(subparsers, "init", text, run)
    command.add_argument(
        "model", nargs="?", help="folder, s3://bucket/prefix or Hugging Face name, as `model.path` of a run"
    )
    examples = example_names()
    command.add_argument(
        "--example",
        choices=examples,
        metavar="NAME",
        help=f"one of the configs that come with drop_ray: {', '.join(examples)}",
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="file to write; by default named after the model")


def run(options: argparse.Namespace) -> int:
    if options.model is None:
        output = write_example(options.example or DEMO, options.output)
    elif options.example:
        raise UserError("give a model or --example, not both; `model.path` in the example's file names another model")
    else:
        output = options.output or config_of(options.model)
        check_new_config(output)  # before imports that take seconds
        from drop_ray.job.first_config import first_config, read_facts

        write_new_config(output, first_config(read_facts(options.model), str(output)))
    print(f"wrote {output}; to see what it would do, and to do it:\n")
    print(f"    drop-ray run {output} --dry-run\n    drop-ray run {output}")
    if options.model is None and options.example is None:
        print(f"\n{FOR_A_MODEL}", end="")
    return 0
