"""`drop-ray gc`: lists and removes the files of a store that nobody needs any more."""

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from drop_ray.config import RUNS, load_config
from drop_ray.errors import UserError
from drop_ray.job.ledger import read_manifest
from drop_ray.job.run_store import store_of
from drop_ray.store import Store, open_store
from drop_ray.store.garbage import find_garbage
from drop_ray.text.console import PLAIN
from drop_ray.text.tables import names, numbers, table_lines, words
from drop_ray.text.units import human_bytes, read_duration


def gc_lines(target: str, older_than: str, delete: bool, console: Console = PLAIN) -> Iterator[str]:
    """One line for everything that can be removed, then the sum. With `delete` each is removed as it is named.

    `target` is a run's config or a store. `older_than` is an age such as `24h`: what is younger is left alone. If
    any run was written to more recently than that, artifacts that no run refers to are left alone as well, because that
    run may not yet have come to all of its units.
    """
    try:
        before = time.time() - read_duration(older_than)
    except ValueError as error:
        raise UserError(f"--older-than {error}") from error
    store = _store(target)
    active = sorted(run for run in store.list(RUNS) if _written(store, run) >= before)
    count = size = 0
    for garbage in find_garbage(store, before, None if active else _references(store)):
        if delete:
            garbage.remove()
        count, size = count + 1, size + garbage.size
        row = (garbage.kind, human_bytes(garbage.size), garbage.path)
        yield from table_lines(console, (names(min_width=18), numbers(min_width=9), words()), [row])
    if active:
        yield f"artifacts of no run were not looked for: written to within {older_than}: {', '.join(active)}"
    yield f"{count} {'removed' if delete else 'to remove (--delete)'}, {human_bytes(size)}"


def _store(target: str) -> Store:
    if Path(target).is_file():
        config = load_config(target)
        store = store_of(config)
    else:
        store = open_store(target)
    if not store.list(""):
        raise UserError(f"gc: there is nothing at {target}; give a run's config, or the folder or URL of a store")
    return store


def _written(store: Store, run: str) -> float:
    return max((file.modified for file in store.files.inventory(f"{RUNS}/{run}").values()), default=0.0)


def _references(store: Store) -> set[str]:
    """Paths of the artifacts of all runs."""
    references: set[str] = set()
    for run in store.list(RUNS):
        try:
            references |= {step.path for _, _, step in read_manifest(store, f"{RUNS}/{run}")}
        except FileNotFoundError:
            continue  # it stopped before its first step
        except UserError as error:
            raise UserError(
                f"gc: {error}; so what the run needs is not known: start that run again, or remove its folder"
            ) from error
    return references
