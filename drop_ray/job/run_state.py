"""A run under way: its job, which units are done, and what the stages have made so far."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import torch

from drop_ray.evaluation.divergence.panel import Panel
from drop_ray.evaluation.gates.cliff import Cliff
from drop_ray.evaluation.gates.verdict import Verdict
from drop_ray.job.job import Job
from drop_ray.job.ledger import Ledger
from drop_ray.job.run_files import RunFiles
from drop_ray.job.stage import Stage
from drop_ray.job.units import LocalUnit, Share, Unit, WorkerRequest
from drop_ray.models.families import DropLists
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.scores import ScoreTables
from drop_ray.planning.variants import Variant, variant_of
from drop_ray.store import Commit
from drop_ray.store.tables import read_table

logger = logging.getLogger(__name__)


class NotDoneError(Exception):
    """Raised in a dry run by work that depends on results that the store does not have yet."""


@dataclass(frozen=True)
class Calibration:
    """The calibration samples of a run."""

    commit: Commit | None
    """Where they are; None in a dry run that found none."""
    identity: str
    """Hash of the token ids."""

    @property
    def committed(self) -> Commit:
        """Where they are, for who is sent to read them."""
        assert self.commit is not None, "only a dry run has none, and it sends nobody"
        return self.commit


class Cluster(Protocol):
    """Does the units. Implemented by `drop_ray.runtime` on Ray."""

    def worker_bytes(self, job: Job) -> int:
        """Bytes of device memory of one scoring worker."""
        ...

    def prepare(self, job: Job, stage: Stage, workers: WorkerRequest) -> None:
        """Make sure that there can be such workers. UserError if not."""
        ...

    def send(self, job: Job, stage: Stage, shares: Sequence[Share], workers: WorkerRequest) -> Iterator[Commit]:
        """Yield the commits of the shares' units as they come."""
        ...


@dataclass
class RunState:
    """What the stages of a run read and add to, one after the other."""

    only_counts: ClassVar[bool] = False
    """Whether units are counted and not done, as in a dry run."""
    job: Job
    """The checked run."""
    ledger: Ledger
    """Which units are done."""
    cluster: Cluster
    """Does the units that are not done."""
    texts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Token samples by field of the config, int64 [num_samples, seq_len]: of the texts to evaluate and quantize on."""
    calibration: Calibration | None = None
    """The calibration samples; found by the stage `score`."""
    scores: dict[DropLists, ScoreTables] = field(default_factory=dict)
    """Score tables by what the model was scored without: the base's, and those that iterative plans pass through."""
    earlier_scores: dict[str, ScoreTables] = field(default_factory=dict)
    """Score tables of the base, by revision of an earlier training checkpoint, oldest first."""
    plans: tuple[DropPlan, ...] = ()
    """Drop plans in the order of the config; made by the stage `plan`."""
    variants: list[Variant] = field(default_factory=list)
    """All variants but the base, in the order in which they were made."""
    checkpoints: dict[str, str] = field(default_factory=dict)
    """Locations of checkpoints, by variant and format."""
    panels: dict[str, Panel] = field(default_factory=dict)
    """Divergence panels by variant, of those whose panel is done; made by the stage `diverge`."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """What the damage gates say of each variant whose answers are known; made by the stage `gates`."""
    cliffs: list[Cliff] = field(default_factory=list)
    """The cliffs that were found; made by the stage `gates`."""
    screened: dict[str, tuple[bool, str]] = field(default_factory=dict)
    """Whether a variant gets the tasks, and why, where `evaluation.screen` chooses; made by the stage `evaluate`."""
    gate_texts: dict[int, list[list[int]]] = field(default_factory=dict)
    """Calibration samples that engines are checked on, by the longest sequence of the engines; read once."""
    serving: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows of serving.parquet by variant; those of the base are the control."""
    published: Any = None
    """Location of the report, and its first sentence; made by the stage `report`."""

    def __post_init__(self) -> None:
        self.files = RunFiles(self.job.store, self.job.run_folder)
        self._is_recorded = False

    @property
    def base(self) -> Variant:
        """The base as a variant: nothing changed."""
        return self.job.base_variant

    def add_plan(self, plan: DropPlan) -> None:
        """Take up a plan that was made, with its variant, and write it to the run's folder as JSON."""
        self.plans += (plan,)
        self.variants.append(variant_of(self.job.checkpoint.identity, plan))
        self.write(f"plans/{plan.name}.json", plan.to_json().encode())

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the run."""
        self.files.write(name, data)

    def record(self) -> None:
        """Write the config and the units into the run's folder.

        Not before the run is known to start: the folder may be that of a finished run with the same name.
        """
        if not self._is_recorded:
            self.write("config.yaml", self.job.config.to_yaml().encode())
        self._is_recorded = True
        self.ledger.write()

    def finish(self) -> None:
        """The run has come to its end."""
        self.record()
        self.files.finish()

    def tell(self, message: str, *arguments: object) -> None:
        """Say something in the log."""
        logger.info(message, *arguments)

    @property
    def calibrated(self) -> Calibration:
        """The calibration samples, once they are found."""
        assert self.calibration is not None, "the stage score comes first"
        return self.calibration

    @property
    def training(self) -> dict[str, ScoreTables]:
        """Score tables of all training checkpoints, oldest first, the run's model last; empty if it is alone."""
        main = self.job.config.model.main_revision
        return {**self.earlier_scores, main: self.scores[self.job.base_drops]} if main and self.earlier_scores else {}

    def read_table(self, commit: Commit, logical: str) -> pa.Table:
        """A table of a unit that is done.

        CorruptArtifactError if its bytes are not those that were committed; the next start makes it anew.
        """
        with self.job.store.discarded_if_corrupt(commit):
            return read_table(self.job.store, commit, logical)

    def complete(self, stage: Stage, units: Sequence[Unit | LocalUnit]) -> list[Commit | None]:
        """Do the units that are not done, and return the commits of all.

        This is the one loop of the pipeline: find which units are pending, send them, record them.
        """
        self._find(stage, units)
        todo = [unit for unit in units if not self.ledger.is_done(unit.step)]
        if todo:
            # Before any work: a text that is too short must not cost a night of scoring.
            self.texts = dict(self.texts)
        for unit in todo:
            if isinstance(unit, LocalUnit):
                self.ledger.add(unit.make())
        sent = [unit.bound(self) for unit in todo if isinstance(unit, Unit)]
        if sent:
            workers = stage.workers(self, sent)
            self.cluster.prepare(self.job, stage, workers)
            self.record()
            for commit in self.cluster.send(self.job, stage, stage.shares(self, sent), workers):
                self.ledger.add(commit)
        elif self._is_recorded:
            self.ledger.write()
        return [self.ledger.commit_of(unit.step) for unit in units]

    def made(self, variant: Variant) -> Commit | None:
        """The commit of a variant's own checkpoint; None where it has none."""
        return self.ledger.commit_of(variant.made_by) if variant.made_by else None

    def _find(self, stage: Stage, units: Sequence[Unit | LocalUnit]) -> None:
        """Look for all units in the store, and mark those to be redone that were made of other units than now."""
        self.ledger.pending(stage.name, {unit.label: unit.step for unit in units})
        for unit in units:
            made_of = unit.made_of if isinstance(unit, LocalUnit) else None
            if made_of is not None and self.ledger.is_done(unit.step):
                commit = self.ledger.commit_of(unit.step)
                if commit.units != made_of:
                    self.ledger.redo(unit.step)
