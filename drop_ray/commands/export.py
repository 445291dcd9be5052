"""`drop-ray export CONFIG`: the stage export, or with `--plan` and `--output` one checkpoint to a folder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from drop_ray.commands.arguments import read_config
from drop_ray.commands.run_stages import run_stages
from drop_ray.errors import UserError
from drop_ray.models.export_formats import EXPORT_FORMATS

if TYPE_CHECKING:
    from drop_ray.config import RunConfig

# A file for llama.cpp, which its own converter writes; a run's `export_formats` do not have it.
GGUF = "gguf"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--plan", help="name of one of the run's plans, or a plan file")
    command.add_argument(
        "--output", type=Path, help="new folder to write that plan's checkpoint to; of gguf, a new file"
    )
    command.add_argument(
        "--format", choices=(*EXPORT_FORMATS, GGUF), help="format of that checkpoint; dropped by default"
    )
    command.add_argument("--converter", type=Path, help="of gguf: convert_hf_to_gguf.py of your checkout of llama.cpp")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if not (options.plan or options.output or options.format or options.converter):
        return run_stages(options)
    if not (options.plan and options.output):
        raise UserError("--plan and --output go together, and --format with them; a run has `export_formats`")
    if (options.format == GGUF) != (options.converter is not None):
        raise UserError("--format gguf and --converter go together")
    config = read_config(options)
    from drop_ray import api

    if options.converter is not None:
        api.export_gguf(config, options.plan, options.output, options.converter)
        print(f"wrote {options.output}")
        return 0
    api.export(config, options.plan, options.output, options.format or "dropped")
    try:
        told = _add_results(options, config)
    except UserError as error:  # such as tables of another version: the checkpoint is written
        told = f", without the run's results in its model card: {error}"
    print(f"wrote {options.output}{told}")
    return 0


def _add_results(options: argparse.Namespace, config: "RunConfig") -> str:
    """Write into the model card what the run measured of the plan, if it did; returns what is said of that."""
    from drop_ray.models.families import DropLists
    from drop_ray.models.model_card import MODEL_CARD, describes
    from drop_ray.sharing.finished_run import run_of

    finished = run_of(config)
    if not finished.has_report:
        return ""
    row = next((row for row in finished.results.variants if row.name == Path(options.plan).stem), None)
    card = options.output / MODEL_CARD
    text = card.read_text(encoding="utf-8")
    # A plan file may have the name of another plan of the run.
    if row is None or not describes(text, DropLists(row.drop_attn, row.drop_mlp), row.refit is not None):
        return ""
    card.write_text(finished.card_with_results(text, row.name), encoding="utf-8")
    return ", with the run's results in its model card"
