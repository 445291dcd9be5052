"""`drop-ray status`: the units of a run, which of them are done, and which workers are busy. Only the store is read."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from drop_ray.config import RunConfig
from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.job.drivers import signs_of_life
from drop_ray.job.heartbeat import Heartbeat
from drop_ray.job.ledger import Ledger, read_manifest
from drop_ray.job.run_log import logs_of
from drop_ray.job.run_store import store_of
from drop_ray.store import Store
from drop_ray.store.lookup import Found
from drop_ray.text.console import PLAIN
from drop_ray.text.tables import names, numbers, table_lines, words
from drop_ray.text.units import human_bytes

STYLES = {"done": "green", "missing": "yellow", "corrupt": "bold red"}


@dataclass(frozen=True)
class UnitState:
    """A unit of a run, as the store has it."""

    stage: str
    """Name of its stage."""
    label: str
    """What is computed, for people."""
    state: str
    """done, missing or corrupt."""
    num_bytes: int
    """Size of what it made; 0 unless it is done."""
    detail: str
    """Where in the store its artifact is; of a corrupt one what is wrong with it."""


@dataclass(frozen=True)
class RunStatus:
    """A run, as the store has it."""

    name: str
    """Name of the run."""
    units: tuple[UnitState, ...]
    """Units met so far, in the order of the stages."""
    drivers: tuple[str, ...]
    """Who works on what is missing, a line each; empty if nothing is missing, or nobody does."""
    log: str | None = None
    """Location of the newest log of the run; None if it has none."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of units by state."""
        return dict(sorted(Counter(unit.state for unit in self.units).items()))

    @property
    def num_bytes(self) -> int:
        """Size of all that is done."""
        return sum(unit.num_bytes for unit in self.units)

    def lines(self, console: Console = PLAIN) -> Iterator[str]:
        """A line a unit, by stage, then who works on the rest, then the sums."""
        rows = [
            (
                unit.stage,
                Text(unit.state, STYLES[unit.state]),
                human_bytes(unit.num_bytes) if unit.num_bytes else "-",
                unit.label,
                unit.detail if unit.state == "done" else f"({unit.detail})" if unit.detail else "",
            )
            for unit in self.units
        ]
        yield from table_lines(console, (names(), names(), numbers(), words(), words()), rows)
        if "missing" in self.counts:
            yield from self.drivers or ("no driver is running",)
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        yield f"run {self.name}: {len(self.units)} units met so far, {counts}, {human_bytes(self.num_bytes)}"
        if self.log:
            yield f"log: {self.log}"

    def as_json(self) -> dict[str, Any]:
        """The same for programs: sizes in bytes."""
        units = [vars(unit) for unit in self.units]
        return {
            "run": self.name,
            "counts": self.counts,
            "bytes": self.num_bytes,
            "drivers": self.drivers,
            "log": self.log,
            "units": units,
        }


def run_status(config: RunConfig, stages: Sequence[str]) -> RunStatus:
    """Look at a run. UserError if the store has no such run.

    stages: names in the order of the pipeline; what comes before the first of them, such as calibrate, is in none.
    """
    store, folder = store_of(config), config.folder
    try:
        met = read_manifest(store, folder)
    except FileNotFoundError as error:
        place = store.location("").rstrip("/")
        raise UserError(f"{place} has no run {config.name}; start it with `drop-ray run`") from error
    found = Ledger(store, folder).look(step for _, _, step in met)
    in_order = sorted(met, key=lambda unit: stages.index(unit[0]) if unit[0] in stages else -1)
    units = tuple(_state(stage, label, found[step.path]) for stage, label, step in in_order)
    is_missing = any(unit.state == "missing" for unit in units)
    drivers = tuple(_driver_lines(store, folder)) if is_missing else ()
    return RunStatus(config.name, units, drivers, next(reversed([*logs_of(store, folder)]), None))


def _driver_lines(store: Store, run_folder: str) -> Iterator[str]:
    """Who works on the run."""
    for _, sign in signs_of_life(store, run_folder):
        if isinstance(sign, Heartbeat):
            yield from sign.lines(time.time())
        else:
            yield f"{sign}; the next start of the run removes it"


def _state(stage: str, label: str, found: Found) -> UnitState:
    if isinstance(found, CorruptArtifactError):
        return UnitState(stage, label, "corrupt", 0, str(found))
    if found is None:
        return UnitState(stage, label, "missing", 0, "")
    size = sum(output.size for output in found.outputs.values())
    return UnitState(stage, label, "done", size, found.step.path)
