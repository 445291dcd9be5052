"""The stage bench: serving speed of every variant against the base, and of the base against itself."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa

from drop_ray.config import RunConfig, ServingConfig
from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.artifacts import SERVING, SERVING_FACTS, SERVING_SCHEMA
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Unit, WorkerRequest
from drop_ray.job.worker import Worker
from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists
from drop_ray.planning.variants import Variant, distinct
from drop_ray.serving.bench import BenchResult, run_bench
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.preflight import kv_shards, serving_size
from drop_ray.serving.spec import BenchSpec
from drop_ray.serving.workloads import equal_memory_batch
from drop_ray.stages.bench_cost import bench_phases
from drop_ray.stages.engines import gate_text, prompt_tokens, variant_folder
from drop_ray.store import Commit
from drop_ray.store.tables import read_table, write_table


@dataclass(frozen=True)
class BenchUnit(Unit):
    """The serving benchmark of one variant against the base."""

    variant: Variant
    """The variant that is measured; the base itself is the control."""
    base: Variant
    """The base that it is measured against."""
    serving: ServingConfig
    """The `serving` section of the config."""
    size: ModelSize
    """Size of the base, in the dtype that it is served in."""
    device: Literal["cpu", "cuda"]
    """The device that the engines compute on."""
    kv_cache_bytes: int | None
    """Bytes of KV cache of each engine on each device; None leaves it to the engine."""
    tensor_parallel: int
    """Number of GPUs of one engine."""
    text: Sequence[Sequence[int]] = ()
    """Calibration samples of equal length that the engines are checked on; set when the unit is sent."""
    made: Commit | None = None
    """Commit of the variant's own checkpoint, if it has one; set when the unit is sent."""

    @property
    def model_key(self) -> object:
        return self.variant

    def bound(self, run: RunState) -> "BenchUnit":
        return replace(self, text=gate_text(run, self.serving.model_len), made=run.made(self.variant))

    def work(self, worker: Worker) -> Commit:
        with variant_folder(worker, self.variant, self.made) as folder:
            result = run_bench(self._spec(worker, folder))
        return self._commit(worker, result)

    def _spec(self, worker: Worker, folder: Path | None) -> BenchSpec:
        checkpoint, remake = worker.checkpoint(), self.variant.remake
        variant = self._settings(worker, self.variant.drops)
        if folder is not None:
            variant = replace(variant, folder=str(folder), own_drops=self.variant.drops, quantized=remake is not None)
        tokens, vocab_size = prompt_tokens(worker)
        return BenchSpec(
            serving=self.serving,
            base=self._settings(worker, self.base.drops),
            variant=variant,
            size=self.size,
            vocab_size=vocab_size,
            tokens=tokens,
            text=self.text,
            kv_shards=kv_shards(checkpoint.config, self.tensor_parallel),
            variant_layer_bytes=remake.bytes_per_weight if remake else None,
            control=self.variant == self.base,
        )

    def _settings(self, worker: Worker, drops: DropLists) -> EngineSettings:
        serving, setup = self.serving, worker.setup
        kv_bytes, base_kv_bytes = (self.size.kv_bytes_per_token(each) for each in (drops, self.base.drops))
        return EngineSettings(
            kind=serving.engine,
            folder=str(worker.checkpoint().folder),
            drops=drops,
            own_drops=self.base.drops,
            dtype=serving.dtype or setup.model.dtype,
            device=self.device,
            max_model_len=serving.model_len,
            # The variant's larger batch at equal memory, as far as it is known beforehand.
            max_batch=equal_memory_batch(serving.batch_sizes[-1], kv_bytes, base_kv_bytes, None),
            kv_cache_bytes=self.kv_cache_bytes,
            threads=setup.threads,
            attn_implementation=setup.model.attn_implementation,
            tensor_parallel=self.tensor_parallel,
            enforce_eager=serving.enforce_eager,
            seed=serving.seed,
        )

    def _commit(self, worker: Worker, result: BenchResult) -> Commit:
        with tempfile.TemporaryDirectory() as folder:
            table, facts = Path(folder) / SERVING, Path(folder) / SERVING_FACTS
            write_table(pa.Table.from_pylist(result.rows, SERVING_SCHEMA), table)
            facts.write_text(json.dumps(result.facts, indent=1, sort_keys=True))
            return worker.commit(self.step, {SERVING: table, SERVING_FACTS: facts})


def _run(run: RunState) -> None:
    units = bench_units(run)
    for unit, commit in zip(units, run.complete(STAGE, units), strict=True):
        if commit is not None:
            run.serving[unit.variant.name] = read_table(run.job.store, commit, SERVING).to_pylist()


def bench_units(run: RunState) -> list[BenchUnit]:
    """The units of a run. Equal variants are measured once, the base always, against itself; none without `serving`."""
    job, serving = run.job, run.job.config.serving
    if serving is None:
        return []
    chosen = [variant for variant in run.variants if serving.plans == "all" or variant.name in serving.plans]
    return [
        BenchUnit(
            label="the base against itself" if variant == run.base else f"{variant.name} against the base",
            step=steps.bench_step(job, variant),
            line="bench",
            variant=variant,
            base=run.base,
            serving=serving,
            size=serving_size(job.config, job.size),
            device=job.config.execution.device,
            kv_cache_bytes=job.kv_cache_bytes,
            tensor_parallel=job.config.execution.tensor_parallel,
        )
        for variant in distinct([run.base, *chosen])
    ]


def _workers(run: RunState, todo: Sequence[Unit]) -> WorkerRequest:
    """Engines run in processes of their own. Two benchmarks on one CPU would slow each other."""
    del todo
    execution = run.job.config.execution
    is_gpu = execution.device == "cuda"
    return WorkerRequest(
        "bench",
        num_workers=None if is_gpu else 1,
        num_gpus=execution.tensor_parallel if is_gpu else 0,
    )


def _cost(run: RunState, line: str, todo: Sequence[Unit]) -> Cost:
    del line
    job, serving = run.job, run.job.config.serving
    if serving is None:
        return Cost()
    units = [unit for unit in todo if isinstance(unit, BenchUnit)]
    phases = [
        phase for unit in units for phase in bench_phases(serving, unit.size, job.vocab_size, unit.base, unit.variant)
    ]
    flops = round(sum(phase.flops for phase in phases))
    return Cost(flops=flops, note=f"{serving.engine}, {serving.mode}", phases=tuple(phases))


def _check(config: RunConfig) -> None:
    if config.serving is None:
        raise UserError("serving: the config has no such section; say which workloads to measure")


STAGE = Stage("bench", "variants", _run, workers=_workers, cost=_cost, goes_on=True, check_last=_check)
