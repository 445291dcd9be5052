"""The stage export: checkpoints of the variants that the config names, in every format that each of them can have."""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drop_ray.errors import UserError
from drop_ray.evaluation.export_check import check_export
from drop_ray.job import steps
from drop_ray.job.artifacts import CHECKPOINT
from drop_ray.job.job import Job
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Unit
from drop_ray.job.worker import Worker
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import DropLists
from drop_ray.models.nemotron_nas import nemotron_nas_config
from drop_ray.models.plain import plain_checkpoint
from drop_ray.models.quantized_base.reading import stored_width
from drop_ray.planning.refit import Refit
from drop_ray.planning.variants import Variant
from drop_ray.store import Commit

logger = logging.getLogger(__name__)

# What refuses a plan that a format cannot have.
FITTING = {"plain": plain_checkpoint, "nemotron-nas": nemotron_nas_config}

# What the record of an export has of the comparison with what it was made of.
COMPARED = "logit_difference"


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
            source, progress = worker.source(self.variant), worker.log_progress("bytes")
            difference = write_compared(source, self.variant.drops, output, self.format, self.provenance, progress)
            return worker.commit(self.step, {CHECKPOINT: output}, {} if difference is None else {COMPARED: difference})


def _run(run: RunState) -> None:
    units, refused = export_units(run.job, run.variants)
    for reason, names in refused.items():
        run.tell("export of %s: %s", ", ".join(names), reason)
    for unit, commit in zip(units, run.complete(STAGE, units), strict=True):
        if commit is not None:
            run.checkpoints[unit.label] = run.job.store.path_of(commit, CHECKPOINT)
            if COMPARED not in commit.provenance["measured"]:
                run.tell("export of %s was NOT compared with the base's weights: its worker's log says why", unit.label)


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


def write_compared(
    source: Checkpoint,
    drops: DropLists,
    output: Path,
    format: ExportFormat,
    provenance: Mapping[str, str],
    progress: Callable[[int, int], None],
) -> float | None:
    """Write one checkpoint, and compare it with what it was made of, as `check_export` does and says."""
    card = card_of(provenance)
    export_checkpoint(source, drops, output, format=format, provenance=dict(provenance), card=card, progress=progress)
    return check_export(source, drops, output, format)


def provenance_of(variant: Variant) -> dict[str, str]:
    """What a checkpoint's config.json says of its origin."""
    refits = {change.kind: change.description for change in variant.changes if isinstance(change, Refit)}
    return {"strategy": variant.plan.strategy, "base": variant.base, **refits}


def card_of(provenance: Mapping[str, str]) -> str | None:
    """What a checkpoint's model card says was done to its weights, given its `provenance_of`; None for nothing."""
    return provenance.get(Refit.kind)


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
    if format not in FITTING:
        return None
    try:
        FITTING[format](job.checkpoint, variant.drops)
    except UserError as error:
        return str(error)
    return None


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    del line
    size, checkpoint = run.job.size, run.job.checkpoint
    parameters = towers = 0
    for unit in todo:
        if isinstance(unit, ExportUnit) and unit.variant.undecided is None:
            kept = size.kept_parameters(unit.variant.drops)
            copied = {"llm-drop": size.parameters, "config-only": 0}.get(unit.format, kept)
            # What is kept is read twice more for the comparison: from the base, and from the export.
            parameters += copied + 2 * kept
            towers += 3 * checkpoint.tower_bytes if copied else 0
    # Exports are copies of what is stored, whatever the dtype that the model is run in.
    return Cost(round(parameters * stored_width(checkpoint, size.parameters)) + towers)


STAGE = Stage("export", "checkpoints", _run, cost=_cost)
