"""Comparing variants with the base in a worker: several in one pass over the layers, each committed by itself."""

import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa

from drop_ray.errors import NotFiniteError
from drop_ray.evaluation.divergence.comparison import Comparison
from drop_ray.evaluation.divergence.kept_states import KeptStates
from drop_ray.evaluation.divergence.panel import panel_of
from drop_ray.evaluation.divergence.state_models import LayeredModel, StateModel, WholeModel
from drop_ray.evaluation.divergence.sweep import Compared, DivergenceSettings, compare_with_base
from drop_ray.job.artifacts import DIVERGENCE, DIVERGENCE_SCHEMA, PANEL
from drop_ray.job.run_state import RunState
from drop_ray.job.units import Sweep, Unit
from drop_ray.job.worker import Worker
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import drop_lists_of
from drop_ray.planning.variants import Variant
from drop_ray.stages.score_units import remembered_samples
from drop_ray.store import Commit, Step
from drop_ray.store.tables import write_table


@dataclass(frozen=True)
class DivergenceUnit(Unit):
    """The panel of one variant."""

    variant: Variant
    """The variant that is compared with the base."""
    samples: Commit | None
    """Commit of the samples; None in a dry run that found none."""
    made: Commit | None = None
    """Commit of the variant's own checkpoint, if it has one; set when the unit is sent."""

    @property
    def model_key(self) -> object:
        variant = self.variant
        return ("diverge", variant if variant.remake else variant.up_to_edits) if self.is_apart else "diverge"

    @property
    def is_apart(self) -> bool:
        """Whether it takes a model of its own beside the base."""
        return bool(self.variant.edits) or self.variant.remake is not None

    def bound(self, run: RunState) -> "DivergenceUnit":
        return replace(self, made=run.made(self.variant))

    def work(self, worker: Worker) -> Commit:
        (commit,) = DivergenceShare((self,), streamed=False, num_tokens=0).sweep(worker)
        return commit


@dataclass(frozen=True)
class DivergenceShare(Sweep):
    """Variants that go through the layers of one model together: the base, or one of their own."""

    units: tuple[DivergenceUnit, ...]
    """The units, at least one."""
    streamed: bool
    """Whether layers are streamed from the checkpoint, and not resident in memory."""
    num_tokens: int
    """Number of tokens of the text."""
    kept_bytes: int = 0
    """Bytes of host memory in which the base's states stay for the next share on the same samples."""

    @property
    def name(self) -> str:
        first, last = self.units[0].variant.name, self.units[-1].variant.name
        return first if first == last else f"{first} to {last}"

    @property
    def kind(self) -> str:
        return f"{len(self.units)} variants, {self.streamed}, {self.units[0].is_apart}"

    @property
    def tokens(self) -> int:
        return self.num_tokens * len(self.units)

    def sweep(self, worker: Worker) -> list[Commit]:
        """Compare all units of the share and commit each.

        NotFiniteError for logits that are not finite, once the variants whose logits are have been committed.
        """
        first = self.units[0]
        assert first.samples is not None
        base, own = self._models(worker)
        base_drops = drop_lists_of(worker.checkpoint())
        variants = {
            unit.variant.name: Compared(own or base, unit.variant.drops.union(base_drops)) for unit in self.units
        }
        result = compare_with_base(
            Compared(base, base_drops),
            variants,
            remembered_samples(worker, first.samples),
            DivergenceSettings(worker.setup.scoring.micro_batch, worker.setup.wave_bytes),
            worker.log_progress("layer passes"),
        )
        units = {unit.variant.name: unit for unit in self.units}
        commits = [_commit(worker, units[name].step, comparison) for name, comparison in result.found.items()]
        if result.faults:
            raise NotFiniteError(
                "\n".join(f"the predictions of {name} at {fault}" for name, fault in result.faults.items())
            )
        return commits

    def _models(self, worker: Worker) -> tuple[StateModel, StateModel | None]:
        """The base, and the variants' own model if they have one."""
        unit = self.units[0]

        def layered(checkpoint: Checkpoint, kept: KeptStates | None = None) -> LayeredModel:
            return LayeredModel(
                checkpoint,
                dtype=worker.dtype,
                attn_implementation=worker.setup.model.attn_implementation,
                placement="streamed" if self.streamed else "resident",
                device=worker.device,
                kept=kept,
            )

        def load() -> tuple[StateModel, StateModel | None]:
            own: StateModel | None = None
            if unit.variant.remake is not None:
                own = WholeModel(worker.load(unit.variant, unit.made))
            elif unit.variant.edits:
                own = layered(worker.source(unit.variant))
            kept = KeptStates(drop_lists_of(worker.checkpoint()), self.kept_bytes) if self.kept_bytes else None
            return layered(worker.checkpoint(), kept), own

        models: tuple[StateModel, StateModel | None] = worker.hold((unit.model_key, self.streamed), load)
        return models


def _commit(worker: Worker, step: Step, comparison: Comparison) -> Commit:
    with tempfile.TemporaryDirectory() as folder:
        table, panel = Path(folder) / DIVERGENCE, Path(folder) / PANEL
        write_table(_table(comparison), table)
        panel.write_text(json.dumps(asdict(panel_of(*comparison)), indent=1))
        return worker.commit(step, {DIVERGENCE: table, PANEL: panel})


def _table(comparison: Comparison) -> pa.Table:
    """A row per sample, with sums over its tokens."""
    count, tokens = comparison.kl.shape
    sums = [values.sum(axis=1).tolist() for values in comparison]
    return pa.table([range(count), [tokens] * count, *sums], schema=DIVERGENCE_SCHEMA)
