"""`drop-ray status`: the units of a run, which of them are done, and which workers are busy. Only the store is read."""

import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from drop_ray.config import RunConfig
from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.job.drivers import signs_of_life
from drop_ray.job.heartbeat import Heartbeat
from drop_ray.job.ledger import Ledger, read_manifest
from drop_ray.store import Store, open_store
from drop_ray.store.lookup import Found
from drop_ray.text.console import PLAIN
from drop_ray.text.tables import names, numbers, table_lines, words
from drop_ray.text.units import human_bytes

STYLES = {"done": "green", "missing": "yellow", "corrupt": "bold red"}


def status_lines(config: RunConfig, stages: Sequence[str], console: Console = PLAIN) -> Iterator[str]:
    """A line a unit, by stage, then who works on the rest, then the sums. UserError if the store has no such run.

    stages: names in the order of the pipeline; what comes before the first of them, such as calibrate, is in none.
    """
    store = open_store(config.store, config.s3_options(config.store))
    try:
        units = read_manifest(store, f"runs/{config.name}")
    except FileNotFoundError as error:
        raise UserError(f"{config.store} has no run {config.name}; start it with `drop-ray run`") from error
    found = Ledger(store, f"runs/{config.name}").look(step for _, _, step in units)
    states: dict[str, int] = {}
    total = 0
    rows = []
    for stage, label, step in sorted(units, key=lambda unit: stages.index(unit[0]) if unit[0] in stages else -1):
        state, size, detail = _state(found[step.path])
        states[state] = states.get(state, 0) + 1
        total += size
        rows.append((stage, Text(state, STYLES[state]), human_bytes(size) if size else "-", label, detail))
    yield from table_lines(console, (names(), names(), numbers(), words(), words()), rows)
    if "missing" in states:
        yield from _driver_lines(store, f"runs/{config.name}")
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield f"run {config.name}: {len(units)} units met so far, {counts}, {human_bytes(total)}"


def _driver_lines(store: Store, run_folder: str) -> Iterator[str]:
    """Who works on the run."""
    found = False
    for _, sign in signs_of_life(store, run_folder):
        found = True
        if isinstance(sign, Heartbeat):
            yield from sign.lines(time.time())
        else:
            yield f"{sign}; the next start of the run removes it"
    if not found:
        yield "no driver is running"


def _state(found: Found) -> tuple[str, int, str]:
    if isinstance(found, CorruptArtifactError):
        return "corrupt", 0, f"({found})"
    if found is None:
        return "missing", 0, ""
    return "done", sum(output.size for output in found.outputs.values()), found.step.path
