"""The stage refit: fits what is left of the plans anew, by each line of the config, and gives further variants."""

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch

from drop_ray.config import RunConfig, refit_field
from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.job.artifacts import HELD_OUT, HELD_OUT_SCHEMA, PATCH, REFIT, REFIT_SCHEMA
from drop_ray.job.refit_section import REFIT as SECTION
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Unit
from drop_ray.job.worker import Worker
from drop_ray.planning.refit import Refit, layer_step
from drop_ray.planning.variants import Variant, distinct
from drop_ray.refit.patch import layer_file, read_tensors, write_tensors
from drop_ray.refit.refitting import LayerFit, RefitSettings, Refitting, Tensors
from drop_ray.stages.score_units import remembered_samples
from drop_ray.store import Commit, Step
from drop_ray.store.tables import read_table, write_table

LAYER = "layer"
"""The changed tensors of one layer, in a folder as the whole patch has."""


@dataclass(frozen=True)
class RefitUnit(Unit):
    """One variant to refit. Every layer is committed by itself, so that another worker goes on where this one was."""

    variant: Variant
    """The refitted variant."""
    change: Refit
    """The refit, which is its last change."""
    samples: torch.Tensor | Commit | None = None
    """Token ids of a text, int64 [num_samples, seq_len], or the calibration samples; set when the unit is sent."""

    @property
    def model_key(self) -> object:
        return self.variant

    def bound(self, run: RunState) -> "RefitUnit":
        spec = self.change.spec
        samples = run.texts[refit_field(spec.label)] if spec.text else run.calibrated.committed
        return replace(self, samples=samples)

    def work(self, worker: Worker) -> Commit:
        worker.release()
        started = time.monotonic()
        samples = remembered_samples(worker, self.samples) if isinstance(self.samples, Commit) else self.samples
        assert samples is not None
        with tempfile.TemporaryDirectory() as folder:
            parts = _Parts(worker, self.step, Path(folder))
            refitting = self._refitting(worker, samples)
            for fit in refitting.layers(parts.find, worker.log_progress("refitted layers")):
                parts.commit(fit)
            if not parts.steps:
                raise UserError(f"refit: {self.variant.before.name} has no output projection left to be fitted")
            held_out = Path(folder) / HELD_OUT
            _write(held_out, refitting.held_out, HELD_OUT_SCHEMA)
            measured = {"seconds": time.monotonic() - started, "layers_found": float(parts.found)}
            outputs = {PATCH: parts.patch, REFIT: parts.table(), HELD_OUT: held_out}
            commit = worker.commit(self.step, outputs, measured)
        for step in parts.steps:
            worker.store.discard(step)
        return commit

    def _refitting(self, worker: Worker, samples: torch.Tensor) -> Refitting:
        spec, setup = self.change.spec, worker.setup
        fitted, held_out = spec.split(len(samples))
        settings = RefitSettings(
            ridge=None if spec.ridge == "auto" else spec.ridge,
            micro_batch=setup.scoring.micro_batch,
            dtype=worker.dtype,
            attn_implementation=setup.model.attn_implementation,
            device=worker.device,
        )
        chosen = torch.cat([samples[part.start : part.stop] for part in (fitted, held_out)])
        before = self.variant.before
        return Refitting(
            worker.checkpoint(),
            worker.source(before),
            before.drops,
            chosen,
            range(len(fitted), len(chosen)),
            settings,
        )


class _Parts:
    """The layers of one refit: in the store until all are done, and in a folder of this worker."""

    def __init__(self, worker: Worker, whole: Step, folder: Path):
        self._worker, self._whole, self._folder = worker, whole, folder
        self.patch = folder / PATCH
        self.patch.mkdir()
        self.steps: list[Step] = []
        self.found = 0
        self._tables: list[pa.Table] = []

    def find(self, layer: int) -> Tensors | None:
        """The changed tensors of a layer that a worker has committed before; None if there is none."""
        store, step = self._worker.store, layer_step(self._whole, layer)
        try:
            commit = store.find(step)
            if commit is None:
                return None
            path = self.patch / layer_file(layer)
            with path.open("wb") as target:
                store.download(commit, f"{LAYER}/{path.name}", target)
            table = read_table(store, commit, REFIT)
        except CorruptArtifactError:
            store.discard(step)
            return None
        self._add(step, table)
        self.found += 1
        return read_tensors(path)

    def commit(self, fit: LayerFit) -> None:
        """Write a layer and commit it."""
        step = layer_step(self._whole, fit.layer)
        path = self.patch / layer_file(fit.layer)
        write_tensors(path, fit.tensors)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            layer, table = Path(folder) / LAYER, Path(folder) / REFIT
            layer.mkdir()
            (layer / path.name).hardlink_to(path)
            _write(table, fit.fits, REFIT_SCHEMA)
            self._worker.commit(step, {LAYER: layer, REFIT: table})
            self._add(step, pa.Table.from_pylist([asdict(row) for row in fit.fits], REFIT_SCHEMA))

    def table(self) -> Path:
        """What was done to each sub-layer, as a file."""
        path = self._folder / REFIT
        write_table(pa.concat_tables(self._tables), path)
        return path

    def _add(self, step: Step, table: pa.Table) -> None:
        self.steps.append(step)
        self._tables.append(table)


def _write(path: Path, rows: Iterable[object], schema: pa.Schema) -> None:
    write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema), path)  # type: ignore[call-overload]


def _run(run: RunState) -> None:
    variants = list(SECTION.variants(run.job, run.base, run.variants))
    _tell_what_drops_nothing(run, variants)
    units = [
        RefitUnit(variant.name, step, "refit", variant, change)
        for variant in distinct(variants)
        if (change := refit_of(variant)) and (step := refit_step(variant))
    ]
    commits = dict(zip([unit.variant for unit in units], run.complete(STAGE, units), strict=True))
    run.variants += [_made(variant, commits) for variant in variants]


def refit_of(variant: Variant) -> Refit | None:
    """The refit that is among a variant's changes."""
    return next((change for change in variant.changes if isinstance(change, Refit)), None)


def refit_step(variant: Variant) -> Step | None:
    """The step of that refit."""
    changes = variant.changes
    for index, change in enumerate(changes):
        if isinstance(change, Refit):
            return change.step(variant.base, replace(variant, changes=changes[:index]).identity())
    return None


def _made(variant: Variant, commits: Mapping[Variant, Commit | None]) -> Variant:
    """The variant with what its refit has made, which later stages read."""
    *before, last = variant.changes
    assert isinstance(last, Refit)
    return replace(variant, changes=(*before, replace(last, made=commits[variant])))


def _tell_what_drops_nothing(run: RunState, variants: Sequence[Variant]) -> None:
    made = {variant.name for variant in variants}
    names = SECTION.names(run.job.config, [variant.name for variant in run.variants])
    if left := [name for name in names if name not in made]:
        run.tell("not refitted, because their plans drop nothing: %s", ", ".join(left))


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    """Three forward passes for each plan: the base's, and each kept layer's before and after it is solved.

    Sums of products take as long as another one or two, and are not counted. Weights of both models are read.
    """
    del line
    size, num_bytes, flops = run.job.size, 0, 0
    for unit in todo:
        if not isinstance(unit, RefitUnit):
            continue
        spec, drops = unit.change.spec, unit.variant.drops
        text = spec.text or run.job.config.calibration
        tokens = sum(map(len, spec.split(text.num_samples))) * text.seq_len
        num_bytes += (size.parameters + size.kept_parameters(drops)) * size.bytes_per_parameter
        flops += size.forward_flops(run.job.base_drops, tokens, text.seq_len)
        flops += 2 * size.forward_flops(drops, tokens, text.seq_len)
    return Cost(num_bytes, flops)


def _check(config: RunConfig) -> None:
    if not config.refit:
        raise UserError("refit: the config has no such section; say how to refit")


STAGE = Stage("refit", "plans", _run, cost=_cost, check_last=_check)
