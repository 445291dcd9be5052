"""Refitting variants in a worker: several on one pass of the base, each with a commit of its own for every layer."""

import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch

from drop_ray.config import refit_field
from drop_ray.errors import CorruptArtifactError, UserError
from drop_ray.job.artifacts import HELD_OUT, HELD_OUT_SCHEMA, PATCH, REFIT, REFIT_SCHEMA
from drop_ray.job.run_state import RunState
from drop_ray.job.units import Sweep, Unit
from drop_ray.job.worker import Worker
from drop_ray.planning.refit import Refit, layer_step
from drop_ray.planning.variants import Variant
from drop_ray.refit.patch import layer_file, read_tensors, write_tensors
from drop_ray.refit.plan_fit import PlanFit
from drop_ray.refit.refitting import Refitting
from drop_ray.refit.results import LayerFit, RefitSettings, Tensors
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
        (commit,) = RefitShare((self,)).sweep(worker)
        return commit


@dataclass(frozen=True)
class RefitShare(Sweep):
    """Variants by one line of the config, which share the base's forward pass."""

    units: tuple[RefitUnit, ...]
    """The units, at least one."""

    @property
    def name(self) -> str:
        return ", ".join(unit.label for unit in self.units)

    @property
    def kind(self) -> str:
        return f"{len(self.units)} refits"

    def sweep(self, worker: Worker) -> list[Commit]:
        worker.release()
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            refitting = self._refitting(worker)
            parts: dict[PlanFit, _Parts] = {}
            for index, unit in enumerate(self.units):
                part = _Parts(worker, unit, Path(folder) / str(index))
                plan = refitting.add(worker.source(unit.variant.before), unit.variant.drops, part.find)
                parts[plan] = part
            for plan, fit in refitting.layers(worker.log_progress("refitted layers")):
                parts[plan].commit(fit)
            seconds = (time.monotonic() - started) / len(self.units)
            return [part.finish(plan, seconds) for plan, part in parts.items()]

    def _refitting(self, worker: Worker) -> Refitting:
        first, setup = self.units[0], worker.setup
        found = first.samples
        samples = remembered_samples(worker, found) if isinstance(found, Commit) else found
        assert samples is not None
        spec = first.change.spec
        fitted, held_out = spec.split(len(samples))
        chosen = torch.cat([samples[part.start : part.stop] for part in (fitted, held_out)])
        settings = RefitSettings(
            ridge=None if spec.ridge == "auto" else spec.ridge,
            micro_batch=setup.scoring.micro_batch,
            dtype=worker.dtype,
            attn_implementation=setup.model.attn_implementation,
            device=worker.device,
        )
        return Refitting(worker.checkpoint(), chosen, range(len(fitted), len(chosen)), settings)


class _Parts:
    """The layers of one refit: in the store until all are done, and in a folder of this worker."""

    def __init__(self, worker: Worker, unit: RefitUnit, folder: Path):
        self._worker, self._unit, self._folder = worker, unit, folder
        self._patch = folder / PATCH
        self._patch.mkdir(parents=True)
        self._steps: list[Step] = []
        self._found = 0
        self._tables: list[pa.Table] = []

    def find(self, layer: int) -> Tensors | None:
        """The changed tensors of a layer that a worker has committed before; None if there is none."""
        store, step = self._worker.store, layer_step(self._unit.step, layer)
        try:
            commit = store.find(step)
            if commit is None:
                return None
            path = self._patch / layer_file(layer)
            with path.open("wb") as target:
                store.download(commit, f"{LAYER}/{path.name}", target)
            table = read_table(store, commit, REFIT)
        except CorruptArtifactError:
            store.discard(step)
            return None
        self._add(step, table)
        self._found += 1
        return read_tensors(path)

    def commit(self, fit: LayerFit) -> None:
        """Write a layer and commit it."""
        step = layer_step(self._unit.step, fit.layer)
        path = self._patch / layer_file(fit.layer)
        write_tensors(path, fit.tensors)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            layer, table = Path(folder) / LAYER, Path(folder) / REFIT
            layer.mkdir()
            (layer / path.name).hardlink_to(path)
            _write(table, fit.fits, REFIT_SCHEMA)
            self._worker.commit(step, {LAYER: layer, REFIT: table})
            self._add(step, pa.Table.from_pylist([asdict(row) for row in fit.fits], REFIT_SCHEMA))

    def finish(self, plan: PlanFit, seconds: float) -> Commit:
        """Commit the whole of it, and discard its parts. seconds: what it took."""
        if not self._steps:
            raise UserError(f"refit: {self._unit.variant.before.name} has no output projection left to be fitted")
        table, held_out = self._folder / REFIT, self._folder / HELD_OUT
        write_table(pa.concat_tables(self._tables), table)
        _write(held_out, plan.held_out, HELD_OUT_SCHEMA)
        measured = {"seconds": seconds, "layers_found": float(self._found)}
        outputs = {PATCH: self._patch, REFIT: table, HELD_OUT: held_out}
        commit = self._worker.commit(self._unit.step, outputs, measured)
        for step in self._steps:
            self._worker.store.discard(step)
        return commit

    def _add(self, step: Step, table: pa.Table) -> None:
        self._steps.append(step)
        self._tables.append(table)


def _write(path: Path, rows: Iterable[object], schema: pa.Schema) -> None:
    write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema), path)  # type: ignore[call-overload]
