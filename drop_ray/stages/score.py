"""The stages calibrate and score: token samples, and score tables of every state of the model that a run asks for."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from drop_ray.calibration import packing
from drop_ray.job import steps
from drop_ray.job.artifacts import SAMPLES, SCORES
from drop_ray.job.job import Job
from drop_ray.job.ledger import Ledger
from drop_ray.job.texts import load_calibration
from drop_ray.job.versions import full_versions
from drop_ray.models.families import DropLists
from drop_ray.planning.scores import ScoreTables, aggregate
from drop_ray.runtime import dispatch
from drop_ray.runtime.cluster import Cluster
from drop_ray.scoring.rows import ScoreRow
from drop_ray.store import Commit, Step
from drop_ray.store.tables import read_table, write_table


@dataclass(frozen=True)
class Calibration:
    commit: Commit
    identity: str


def calibrate(job: Job, ledger: Ledger) -> Calibration:
    """The run's token samples, committed; their identity is a hash of the token ids alone."""
    step = steps.calibration_step(job)
    if ledger.pending("calibrate", {"calibration samples": step}):
        ledger.add(_commit_table(job, step, SAMPLES, packing.to_table(load_calibration(job))))
    commit = ledger.commit_of(step)
    samples = packing.from_table(read_table(job.store, commit, SAMPLES))
    return Calibration(commit, packing.token_identity(samples))


class Scores:
    """Score tables of the base model, of every drop state that iterative plans pass through, and of the base model's
    earlier training checkpoints."""

    def __init__(self, job: Job, cluster: Cluster, ledger: Ledger, samples: Calibration):
        self._job, self._cluster, self._ledger = job, cluster, ledger
        self.calibration = samples
        self.tables: dict[DropLists, ScoreTables] = {}
        self._earlier: dict[str, ScoreTables] = {}

    @property
    def training(self) -> dict[str, ScoreTables]:
        """The base tables of all training checkpoints, oldest first, the run's model last; empty if it is alone."""
        main = self._job.config.model.main_revision
        return {**self._earlier, main: self.tables[self._job.base_drops]} if main and self._earlier else {}

    def score_earlier(self, revision: str) -> None:
        """Score an earlier training checkpoint, if the store does not have it: single layers, nothing dropped."""
        self._earlier[revision] = self._table(self._job.base_drops, (1,), revision)

    def table(self, drops: DropLists, gaps: tuple[int, ...] = (1,)) -> ScoreTables:
        """The importance of what the model without `drops` still has; scored if the store does not have it."""
        if drops not in self.tables:
            self.tables[drops] = self._table(drops, gaps)
        return self.tables[drops]

    def _table(self, drops: DropLists, gaps: tuple[int, ...], revision: str | None = None) -> ScoreTables:
        tables = aggregate([row for step in self._score(drops, gaps, revision).values() for row in self._rows(step)])
        return {metric: tables[metric] for metric in self._job.config.scoring.metrics}

    def _score(self, drops: DropLists, gaps: tuple[int, ...], revision: str | None) -> dict[int, Step]:
        """Score the ranges that are missing, then make each gap's table of all its ranges."""
        tables = {gap: steps.score_step(self._job, self.calibration.identity, drops, gap, revision) for gap in gaps}
        ranges = steps.sample_ranges(self._job)
        units = {(part, gap): steps.score_unit(table, part) for gap, table in tables.items() for part in ranges}
        state = self._job.state_name(drops, revision)
        missing = self._ledger.pending("score", {_label(state, *key): step for key, step in units.items()})
        pending: dict[range, dict[int, Step]] = {}
        for part, gap in units:
            if _label(state, part, gap) in missing:
                pending.setdefault(part, {})[gap] = units[part, gap]
        if pending:
            for commit in dispatch.score(self._cluster, self._job, self.calibration.commit, drops, pending, revision):
                self._ledger.add(commit)
        for gap, table in tables.items():
            self._join(table, f"scores {state}, gap {gap}", [units[part, gap] for part in ranges])
        return tables

    def _join(self, table: Step, label: str, units: list[Step]) -> None:
        """Commit the table of all ranges in sample order, unless it is there and made of these very units."""
        commits = [self._ledger.commit_of(unit) for unit in units]
        checksums = {commit.step.path: commit.checksum for commit in commits}
        if not self._ledger.pending("score", {label: table}):
            if self._ledger.commit_of(table).units == checksums:
                return
            self._ledger.redo(table)
        rows = pa.concat_tables([read_table(self._job.store, commit, SCORES) for commit in commits])
        self._ledger.add(_commit_table(self._job, table, SCORES, rows, checksums))

    def _rows(self, step: Step) -> list[ScoreRow]:
        table = read_table(self._job.store, self._ledger.commit_of(step), SCORES)
        return [ScoreRow(**row) for row in table.to_pylist()]


def _commit_table(job: Job, step: Step, name: str, table: pa.Table, units: Mapping[str, str] | None = None) -> Commit:
    """Commit a table that the driver made itself; `units` are the checksums of what it was made of."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_table(table, path)
        return job.store.commit(step, {name: path}, units=units or {}, provenance={"versions": full_versions()})


def _label(state: str, part: range, gap: int) -> str:
    windows = f", windows of {gap}" if gap > 1 else ""
    return f"{state}, samples {part.start} to {part.stop - 1}{windows}"
