"""One command per stage, which runs the pipeline up to that stage. `run` runs all of it, or a dry run."""

import argparse
from typing import TYPE_CHECKING, Any

from drop_ray.commands import bench, export
from drop_ray.commands.arguments import add_command, add_config, add_json, read_config_to_run, show_result
from drop_ray.commands.run_stages import RUN, run_stages
from drop_ray.errors import UserError
from drop_ray.stages.catalog import STAGES

if TYPE_CHECKING:
    from drop_ray.config import RunConfig

COMMANDS = {
    RUN: f"do everything: {', '.join(stage.name for stage in STAGES)}",
    **{stage.name: stage.help for stage in STAGES},
}


def add(subparsers: Any) -> None:
    # What some of them take besides.
    further = {RUN: _add_dry_run, "export": export.add_arguments, "bench": bench.add_arguments}
    for name, text in COMMANDS.items():
        command = add_command(subparsers, name, text, run_stages)
        add_config(command)
        command.add_argument("--reuse", action="store_true", help="take results made with other library versions")
        if name in further:
            further[name](command)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0")
    return value


def _priced(config: "RunConfig", price: float) -> "RunConfig":
    """The config with a price of its GPUs. UserError if it does not name them."""
    execution = config.execution
    if execution.hardware is None:
        raise UserError("--price: execution.hardware is not stated, so no hours are forecast; name the GPUs there")
    hardware = execution.hardware.model_copy(update={"price_per_gpu_hour": price})
    return config.model_copy(update={"execution": execution.model_copy(update={"hardware": hardware})})


def _add_dry_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="list the steps to do, with bytes and FLOPs")
    command.add_argument(
        "--check", action="store_true", help="a dry run after all that a run checks; fetches the model and tasks' data"
    )
    command.add_argument("--price", type=_positive, metavar="P", help="of a GPU for an hour, to say what it will cost")
    add_json(command, "with --dry-run, print")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if not (options.dry_run or options.check):
        if options.price is not None:
            raise UserError("--price: a price is for the forecast of --dry-run; add it")
        if options.json:
            raise UserError("--json goes with --dry-run; of a run under way or done, `drop-ray status --json` tells")
        return run_stages(options)
    config = read_config_to_run(options)
    if options.price is not None:
        config = _priced(config, options.price)
    if options.check:
        from drop_ray.pipeline import check

        check(config)
    from drop_ray.stages.forecast import forecast_run

    show_result(forecast_run(config), options.json)
    return 0
