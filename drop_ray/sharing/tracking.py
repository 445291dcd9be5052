"""Logs a finished run where its config's `tracking` says.

A failure is told and fails nothing: the run's results are in its store, and `drop-ray track` logs them once more.
"""

import importlib.util
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from drop_ray.config import RunConfig
from drop_ray.config.tracking import TrackingConfig
from drop_ray.errors import UserError
from drop_ray.sharing.finished_run import run_of
from drop_ray.sharing.tracked import Tracked, tracked
from drop_ray.text.faults import in_a_line

FILES = ("report.html", "report.md", "results.csv", "config.yaml")
"""What is logged of a run's folder."""
MODULES = {"mlflow": "MLflow", "wandb": "Weights & Biases"}
"""Modules that log, by the field and the extra of their name, and what people call them."""

AGAIN = "`drop-ray track` logs it once more"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Logged:
    """What became of one place."""

    line: str
    """For people: where the run is, or why it is not there."""
    failed: bool = False
    """Whether it is not there."""


def check_installed(tracking: TrackingConfig | None) -> None:
    """UserError, before any work, if what the config logs to is not installed."""
    for name, title in MODULES.items():
        if getattr(tracking, name, None) is not None and importlib.util.find_spec(name) is None:
            raise UserError(
                f"tracking.{name}: {title} is not installed; pip install 'drop-ray[{name}]', or leave it out"
            )


def track(config: RunConfig) -> list[Logged]:
    """Log the finished run of a config. UserError if it has no report."""
    if config.tracking is None:
        return []
    finished = run_of(config)
    files = {name: finished.store.read_file(f"{finished.config.folder}/{name}") for name in FILES}
    run = tracked(finished.results, files)
    return [log_to(MODULES[name], log, run) for name, log in _places(config.tracking)]


def track_after_run(config: RunConfig) -> list[Logged]:
    """As `track`, of a run that has just come to its end; it raises nothing."""
    try:
        return track(config)
    except Exception as error:  # such as a store that is out of reach: what the run computed is in it
        logger.warning("not logged: %s", in_a_line(error))
        return [Logged(f"not logged: {in_a_line(error)}; {AGAIN}", failed=True)]


def _places(tracking: TrackingConfig) -> Iterator[tuple[str, Callable[[Tracked], str]]]:
    if (mlflow := tracking.mlflow) is not None:
        from drop_ray.sharing.mlflow_log import log_to_mlflow

        yield "mlflow", lambda run: log_to_mlflow(mlflow, run)
    if (wandb := tracking.wandb) is not None:
        from drop_ray.sharing.wandb_log import log_to_wandb

        yield "wandb", lambda run: log_to_wandb(wandb, run)


def log_to(title: str, log: Callable[[Tracked], str], run: Tracked) -> Logged:
    """Log a run to one place. title: what people call it."""
    try:
        return Logged(f"{title}: {log(run)}")
    except Exception as error:  # a server may fail in any way, and the run is done
        logger.warning("not logged to %s: %s", title, in_a_line(error))
        return Logged(f"{title}: not logged: {in_a_line(error)}; {AGAIN}", failed=True)
