"""A run under way: its job, which units are done, and what the stages have made so far."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import torch

from drop_ray.evaluation.divergence.panel import Panel
from drop_ray.evaluation.gates.cliff import Cliff
from drop_ray.evaluation.gates.verdict import Verdict
from drop_ray.job.job import Job
from drop_ray.job.ledger import Ledger
from drop_ray.job.run_files import RunFiles
from drop_ray.job.run_log import RunLog
from drop_ray.job.run_warnings import MOST, RunWarnings, keep_warnings, kept_warnings
from drop_ray.job.stage import Stage
from drop_ray.job.units import LocalUnit, Share, Unit, WorkerRequest
from drop_ray.models.families import DropLists
from drop_ray.planning.plans import DropPlan
from drop_ray.planning.scores import ScoreTables
from drop_ray.planning.sensitivity import Agreement
from drop_ray.planning.variants import Variant, variant_of
from drop_ray.serving.sampling_gate import SamplingGate
from drop_ray.store import Commit
from drop_ray.store.tables import read_table

logger = logging.getLogger(__name__)


class NotDoneError(Exception):
    """Raised in a dry run by work that depends on results that the store does not have yet."""


@dataclass(frozen=True)
class Calibration:
    """The samples of a calibration text."""

    commit: Commit | None
    """Where they are; None in a dry run that found none."""
    identity: str
    """Hash of the token ids."""
    num_samples: int
    """Number of samples."""

    @property
    def committed(self) -> Commit:
        """Where they are, for who is sent to read them."""
        assert self.commit is not None, "only a dry run has none, and it sends nobody"
        return self.commit


@dataclass(frozen=True)
class TextPlan:
    """What a plan of the run would be if it were chosen by another calibration text."""

    plan: str
    """Name of the plan."""
    text: str
    """Name of the text; `consensus` for all texts together."""
    num_samples: int | None
    """Samples of the text that were scored; None for all texts together."""
    variant: Variant
    """What would be dropped."""


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
    edited_scores: dict[Variant, ScoreTables] = field(default_factory=dict)
    """Score tables of refitted models that plans pass through."""
    earlier_scores: dict[str, ScoreTables] = field(default_factory=dict)
    """Score tables of the base, by revision of an earlier training checkpoint, oldest first."""
    compared: list[TextPlan] = field(default_factory=list)
    """What one-shot plans are by each text of `calibration.compare`; made by the stage `plan`."""
    agreements: list[Agreement] = field(default_factory=list)
    """How far those texts agree; made by the stage `plan`."""
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
    drafts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Contents of draft.json by draft, one for each number of drafted tokens; that of the base is the control."""
    log: RunLog | None = None
    """The log file of this start, if it has one."""
    sampling: dict[float, SamplingGate] = field(default_factory=dict)
    """What the gate of sampling found, by temperature; made by the stage `bench`."""
    published: Any = None
    """Location of the report, and its first sentence; made by the stage `report`."""
    warned: RunWarnings = field(default_factory=RunWarnings)
    """What the log has warned of since the start."""

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
        """Write the config, the units and what was warned of into the run's folder.

        Not before the run is known to start: the folder may be that of a finished run with the same name.
        """
        if not self._is_recorded:
            self.write("config.yaml", self.job.config.to_yaml().encode())
            if self.log is not None:
                self.log.begin()
        self._is_recorded = True
        self.ledger.write()
        if self.warned.told:
            keep_warnings(self.files, self.warnings())

    def warnings(self) -> list[str]:
        """What the log has warned of in this start and in earlier ones, each once."""
        return [*dict.fromkeys([*self._warned_earlier, *self.warned.told])][:MOST]

    @cached_property
    def _warned_earlier(self) -> list[str]:
        return kept_warnings(self.job.store, self.job.run_folder)

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
        """Score tables of all training checkpoints, oldest first, the run's model last; empty if it is alone.

        They are of the metrics in which all checkpoints were scored.
        """
        main = self.job.config.model.main_revision
        if not main or not self.earlier_scores:
            return {}
        common = next(iter(self.earlier_scores.values()))
        return {**self.earlier_scores, main: {name: self.scores[self.job.base_drops][name] for name in common}}

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
