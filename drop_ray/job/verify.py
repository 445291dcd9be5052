"""`drop-ray verify`: every byte of a run's artifacts and of its own folder, compared with what was recorded."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from drop_ray.config import RunConfig
from drop_ray.errors import CorruptArtifactError, StoreRefusedError, UserError
from drop_ray.job.drivers import signs_of_life
from drop_ray.job.ledger import read_manifest
from drop_ray.job.run_files import are_complete, recorded_files
from drop_ray.job.run_store import store_of
from drop_ray.store import Output, Step, Store
from drop_ray.text.console import PLAIN
from drop_ray.text.progress import Progress
from drop_ray.text.units import human_bytes

# Most outputs are small, and reading one is mostly waiting for the storage.
UNITS_AT_ONCE = 4


@dataclass
class Verification:
    """What was read, and what is wrong with it."""

    units: int = 0
    """Number of units that the run has met."""
    outputs: int = 0
    """Number of files of units that were read."""
    files: int = 0
    """Number of files of the run's own folder that were read."""
    num_bytes: int = 0
    """Size of those files together, in bytes."""
    missing: int = 0
    """Number of units that are not done, which is no fault."""
    unchecked: bool = False
    """Whether the run's own files have no checksums, because its last start did not come to its end."""
    faults: list[str] = field(default_factory=list)
    """One line per fault."""

    def lines(self, _: Console = PLAIN) -> Iterator[str]:
        """The faults, then the sums."""
        yield from self.faults
        yield self.summary()

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self)

    def summary(self) -> str:
        return (
            f"{self.units} units, {self.outputs} outputs, {self.files} files of the run, "
            f"{human_bytes(self.num_bytes)} read: {len(self.faults)} faults"
            + (f"; {self.missing} units are not done" if self.missing else "")
            + ("; the run's own files were not compared, since it has not come to its end" if self.unchecked else "")
        )


def verify(config: RunConfig) -> Verification:
    """Read every output of every unit that the run has met. UserError if the store has no such run."""
    store = store_of(config)
    try:
        units = {step.path: (label, step) for _, label, step in read_manifest(store, config.folder)}
    except FileNotFoundError as error:
        raise UserError(f"{config.store} has no run {config.name}; start it with `drop-ray run`") from error
    result = Verification()
    with Progress("verify", len(units), "units") as progress, ThreadPoolExecutor(UNITS_AT_ONCE) as readers:
        for (label, _), found in zip(
            units.values(), readers.map(lambda unit: _check(store, unit[1]), units.values()), strict=True
        ):
            result.units += 1
            result.outputs += found.outputs
            result.num_bytes += found.num_bytes
            result.missing += found.missing
            result.faults += [f"{label}: {fault}" for fault in found.faults]
            progress.advance(label)
    _check_run(store, config.folder, result)
    return result


def _check_run(store: Store, run_folder: str, result: Verification) -> None:
    """Compare the files of the run's folder, and read what its drivers left there."""
    result.unchecked = not are_complete(store, run_folder)
    files: dict[str, list[Output]] = {}
    try:
        if not result.unchecked:
            files = recorded_files(store, run_folder)
    except UserError as error:
        result.faults.append(str(error))
    for name, outputs in files.items():
        where = store.location(f"{run_folder}/{name}")
        try:
            data = store.read_file(f"{run_folder}/{name}")
        except FileNotFoundError:
            result.faults.append(f"{where}: missing")
            continue
        except (CorruptArtifactError, StoreRefusedError) as error:
            result.faults.append(str(error))
            continue
        result.files += 1
        result.num_bytes += len(data)
        if Output(len(data), hashlib.sha256(data).hexdigest()) not in outputs:
            result.faults.append(
                f"{where}: other bytes than the run wrote; remove it, and `drop-ray report` writes it anew"
            )
    for _, sign in signs_of_life(store, run_folder):
        if isinstance(sign, UserError):
            result.faults.append(str(sign))


def _check(store: Store, step: Step) -> Verification:
    found = Verification()
    try:
        commit = store.recorded(step)
    except (CorruptArtifactError, StoreRefusedError) as error:
        found.faults.append(str(error))
        return found
    if commit is None:
        found.missing = 1
        return found
    with Path(os.devnull).open("wb") as nowhere:
        for logical, output in commit.outputs.items():
            try:
                store.download(commit, logical, nowhere)
            except (CorruptArtifactError, StoreRefusedError) as error:
                found.faults.append(str(error))
            found.outputs += 1
            found.num_bytes += output.size
    return found
