"""The stage export: checkpoints of the variants that the config names, in every format that each of them can have."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.artifacts import CHECKPOINT
from drop_ray.job.job import Job
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Unit
from drop_ray.job.worker import Worker
from drop_ray.models.export import export_checkpoint
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.plain import plain_checkpoint
from drop_ray.planning.refit import Refit
from drop_ray.planning.variants import Variant
from drop_ray.store import Commit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportUnit(Unit):
    """One checkpoint to write."""

    variant: Variant
    """The variant that is exported."""
    format: ExportFormat
    """The export format."""
    provenance: Mapping[str, str]
    """What the checkpoint's config.json says of its origin."""

    @property
    def model_key(self) -> object:
        return self.variant

    def work(self, worker: Worker) -> Commit:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / CHECKPOINT
            source = worker.source(self.variant)
            export_checkpoint(
                source,
                self.variant.drops,
                output,
                format=self.format,
                provenance=dict(self.provenance),
                card=self.provenance.get(Refit.kind),
            )
            return worker.commit(self.step, {CHECKPOINT: output})


def _run(run: RunState) -> None:
    units, refused = export_units(run.job, run.variants)
    for reason, names in refused.items():
        run.tell("export of %s: %s", ", ".join(names), reason)
    for unit, commit in zip(units, run.complete(STAGE, units), strict=True):
        if commit is not None:
            run.checkpoints[unit.label] = run.job.store.path_of(commit, CHECKPOINT)


def export_units(job: Job, variants: Sequence[Variant]) -> tuple[list[ExportUnit], dict[str, list[str]]]:
    """The units that `export` and `export_formats` ask for, and the variants that cannot have a format, by reason."""
    units: list[ExportUnit] = []
    refused: dict[str, list[str]] = {}
    for variant in variants:
        for format in _formats_of(job, variant):
            reason = None if variant.undecided else _refusal(job, variant, format)
            if reason is None:
                units.append(_unit(variant, format))
            else:
                refused.setdefault(reason, []).append(variant.name)
    return units, refused


def provenance_of(variant: Variant) -> dict[str, str]:
    """What a checkpoint's config.json says of its origin."""
    refits = {change.kind: change.description for change in variant.changes if isinstance(change, Refit)}
    return {"strategy": variant.plan.strategy, "base": variant.base, **refits}


def _unit(variant: Variant, format: ExportFormat) -> ExportUnit:
    label = variant.name if format == "dropped" else f"{variant.name} ({format})"
    step = steps.export_step(variant, format)
    return ExportUnit(label, step, "export", variant, format, provenance_of(variant))


def _formats_of(job: Job, variant: Variant) -> Sequence[ExportFormat]:
    """The formats to try. `plain` needs whole blocks dropped: for others it counts only if named alone."""
    wanted = job.config.export
    formats = job.config.export_formats if wanted == "all" or variant.name in wanted else ()
    undecided = variant.undecided
    is_whole = undecided.whole_blocks if undecided else variant.drops.attn == variant.drops.mlp
    return formats if is_whole or (len(formats) == 1 and not undecided) else [f for f in formats if f != "plain"]


def _refusal(job: Job, variant: Variant, format: ExportFormat) -> str | None:
    if format == "config-only" and variant.edits:
        return "config-only has no weights, and this variant changes some; export it as dropped"
    if format != "plain":
        return None
    try:
        plain_checkpoint(job.checkpoint, variant.drops)
    except UserError as error:
        return str(error)
    return None


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    del line
    size = run.job.size
    parameters = 0
    for unit in todo:
        if isinstance(unit, ExportUnit) and unit.variant.undecided is None and unit.format != "config-only":
            full = unit.format == "llm-drop"
            parameters += size.parameters if full else size.kept_parameters(unit.variant.drops)
    return Cost(parameters * size.bytes_per_parameter)


STAGE = Stage("export", "checkpoints", _run, cost=_cost)
