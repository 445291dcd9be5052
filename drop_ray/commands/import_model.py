"""`drop-ray import SOURCE OUTPUT`: writes a model of another form as a checkpoint that runs can use."""

import argparse
from pathlib import Path
from typing import Any

from drop_ray.commands.arguments import add_command


def add(subparsers: Any) -> None:
    text = (
        "write the language model of a multimodal checkpoint, a Baichuan-7B or Baichuan2-7B model as a Llama "
        "checkpoint, or .bin files as safetensors"
    )
    command = add_command(subparsers, "import", text, run)
    command.add_argument("source", help="folder, s3://bucket/prefix or Hugging Face name")
    command.add_argument("output", type=Path, help="new folder to write the checkpoint to")
    command.add_argument("--revision", help="branch, tag or commit of a Hugging Face name; subfolder of a folder")


def run(options: argparse.Namespace) -> int:
    from drop_ray.importing.checkpoint import import_model

    import_model(options.source, options.revision, options.output)
    print(f"wrote {options.output}; to run with it:\nmodel.path: {options.output}")
    return 0
