"""The stage quantize: quantizes the base and the plans by each method of the config, and judges the results."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch

from drop_ray.config import RunConfig, quantization_field
from drop_ray.errors import UserError
from drop_ray.job.artifacts import CHECKPOINT, EXPERTS, RECONSTRUCTION, RECONSTRUCTION_SCHEMA
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Unit, WorkerRequest
from drop_ray.job.worker import Worker
from drop_ray.planning.variants import Variant, distinct
from drop_ray.quantization.change import Quantize
from drop_ray.quantization.cost import quantization_phase
from drop_ray.quantization.engine import engine_of
from drop_ray.quantization.section import QUANTIZATION
from drop_ray.stages.diverge import diverge
from drop_ray.stages.evaluate import evaluate
from drop_ray.stages.export import card_of, provenance_of
from drop_ray.stages.gates import ask_gates
from drop_ray.stages.score_units import remembered_samples
from drop_ray.store import Commit
from drop_ray.store.tables import write_table

# The part of the time until layers are quantized, for the progress: the rest is comparing them with the base's.
QUANTIZED = 0.8


@dataclass(frozen=True)
class QuantizationUnit(Unit):
    """One variant to quantize, after its sub-layers were dropped."""

    variant: Variant
    """The quantized variant."""
    change: Quantize
    """The quantization, which is its last change."""
    provenance: Mapping[str, str]
    """What the checkpoint's config.json says of its origin."""
    samples: torch.Tensor | Commit | None = None
    """Token ids of a text, int64 [num_samples, seq_len], or the calibration samples; set when the unit is sent."""

    @property
    def model_key(self) -> object:
        return self.variant

    def bound(self, run: RunState) -> "QuantizationUnit":
        spec = self.change.spec
        samples = run.texts[quantization_field(spec.label)] if spec.text else run.calibrated.committed
        return replace(self, samples=samples)

    def work(self, worker: Worker) -> Commit:
        from drop_ray.quantization.reconstruction import reconstruction_errors

        worker.release()
        spec, source, drops = self.change.spec, worker.source(self.variant), self.variant.drops
        samples = remembered_samples(worker, self.samples) if isinstance(self.samples, Commit) else self.samples
        assert samples is not None
        calibration, held_out = spec.split(len(samples))
        with tempfile.TemporaryDirectory() as folder:
            output, errors = Path(folder) / CHECKPOINT, Path(folder) / RECONSTRUCTION
            made = {CHECKPOINT: output, RECONSTRUCTION: errors}
            experts = engine_of(spec).quantize(
                source,
                drops,
                spec,
                samples[calibration.start : calibration.stop],
                output,
                dtype=worker.dtype,
                device=worker.device,
                provenance=self.provenance,
                card=card_of(self.provenance),
                progress=worker.log_progress("quantized layers", 0.0, QUANTIZED),
            )
            found = reconstruction_errors(
                source,
                drops,
                output,
                spec,
                samples[held_out.start : held_out.stop],
                device=worker.device,
                progress=worker.log_progress("compared layers", QUANTIZED, 1.0),
            )
            write_table(pa.Table.from_pylist([asdict(row) for row in found], RECONSTRUCTION_SCHEMA), errors)
            if experts is not None:
                made[EXPERTS] = Path(folder) / EXPERTS
                experts.write(made[EXPERTS])
            return worker.commit(self.step, made)


def _run(run: RunState) -> None:
    variants = list(QUANTIZATION.variants(run.job, run.base, run.variants))
    units = [
        QuantizationUnit(variant.name, step, "quantize", variant, change, provenance_of(variant))
        for variant in distinct(variants)
        if isinstance(change := variant.remake, Quantize) and (step := variant.made_by)
    ]
    for unit, commit in zip(units, run.complete(STAGE, units), strict=True):
        if commit is not None:
            run.checkpoints[unit.label] = run.job.store.path_of(commit, CHECKPOINT)
    if variants:
        diverge(run, variants)
        evaluate(run, variants)
        ask_gates(run, variants)
    run.variants += variants


def _workers(run: RunState, todo: Sequence[Unit]) -> WorkerRequest:
    """Processes of their own, because importing gptqmodel seeds torch and sets environment variables of CUDA."""
    environment: dict[str, str] = {}
    for unit in todo:
        assert isinstance(unit, QuantizationUnit)
        environment |= unit.change.environment(run.job.config.execution.device)
    return WorkerRequest(Quantize.kind, environment=environment)


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    """Bytes that are read; those written are known only when the checkpoint is there."""
    del line
    size = run.job.size
    units = [unit for unit in todo if isinstance(unit, QuantizationUnit)]
    known = [unit for unit in units if unit.variant.undecided is None]
    num_bytes = sum(size.kept_parameters(unit.variant.drops) for unit in known) * size.bytes_per_parameter
    phases = tuple(
        quantization_phase(size, unit.variant.drops, unit.change.spec, run.job.config.calibration) for unit in units
    )
    flops = round(sum(phase.flops for phase in phases))
    return Cost(num_bytes, flops, "at least: searching and packing take more" if flops else "", phases)


def _check(config: RunConfig) -> None:
    if not config.quantization:
        raise UserError("quantization: the config has no such section; say by which methods to quantize")


STAGE = Stage("quantize", "checkpoints", _run, workers=_workers, cost=_cost, check_last=_check)
