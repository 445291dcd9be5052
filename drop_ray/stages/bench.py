"""The stage bench: serving speed of every variant against the base, and of the base against itself."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from drop_ray.config import RunConfig
from drop_ray.config.serving import AT_LOAD
from drop_ray.errors import UserError
from drop_ray.job import steps
from drop_ray.job.artifacts import SERVING, SERVING_FACTS, SERVING_SCHEMA
from drop_ray.job.run_state import RunState
from drop_ray.job.stage import Cost, Stage
from drop_ray.job.units import Unit, WorkerRequest
from drop_ray.job.worker import Worker
from drop_ray.models.families import DropLists
from drop_ray.planning.variants import Variant, distinct
from drop_ray.serving.bench import BenchResult, run_bench
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.preflight import kv_shards
from drop_ray.serving.spec import BenchSpec
from drop_ray.serving.workloads import equal_memory_batch
from drop_ray.stages.bench_cost import bench_phases
from drop_ray.stages.draft_sampling import allowed_temperatures
from drop_ray.stages.drafts import measure_drafts
from drop_ray.stages.engine_units import EngineUnit, of_run
from drop_ray.stages.engines import gate_text, prompt_tokens, variant_folder
from drop_ray.store import Commit
from drop_ray.store.tables import read_table, write_table


@dataclass(frozen=True)
class BenchUnit(EngineUnit):
    """The serving benchmark of one variant against the base."""

    at_load: bool = False
    """Whether vLLM makes 8-bit floats of the variant while it loads it."""

    @property
    def name(self) -> str:
        """What its results are called."""
        return f"{self.variant.name}-{AT_LOAD}" if self.at_load else self.variant.name

    def bound(self, run: RunState) -> "BenchUnit":
        return replace(self, text=gate_text(run, self.serving.model_len), made=run.made(self.variant))

    def work(self, worker: Worker) -> Commit:
        with variant_folder(worker, self.variant, self.made) as folder:
            result = run_bench(self._spec(worker, folder), progress=worker.log_progress("pairs"))
        return self._commit(worker, result)

    def _spec(self, worker: Worker, folder: Path | None) -> BenchSpec:
        checkpoint, remake = worker.checkpoint(), self.variant.remake
        variant = self._settings(worker, self.variant.drops)
        if folder is not None:
            variant = replace(variant, folder=str(folder), own_drops=self.variant.drops, quantized=remake is not None)
        if self.at_load:
            variant = replace(variant, fp8_at_load=True)
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
            variant_layer_bytes=1.0 if self.at_load else remake.bytes_per_weight if remake else None,
            control=self.variant == self.base and not self.at_load,
        )

    def _settings(self, worker: Worker, drops: DropLists) -> EngineSettings:
        serving = self.serving
        kv_bytes, base_kv_bytes = (self.size.kv_bytes(each, serving.model_len) for each in (drops, self.base.drops))
        # The variant's larger batch at equal memory, as far as it is known beforehand.
        max_batch = equal_memory_batch(serving.batch_sizes[-1], kv_bytes, base_kv_bytes, None)
        return self.settings(worker, drops, serving.model_len, max_batch)

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
            run.serving[unit.name] = read_table(run.job.store, commit, SERVING).to_pylist()
    measure_drafts(run, STAGE)
    for temperature in allowed_temperatures(run, STAGE):
        measure_drafts(run, STAGE, temperature)


def bench_units(run: RunState) -> list[BenchUnit]:
    """The units of a run. Equal variants are measured once, the base always, against itself; none without `serving`.

    Those that vLLM makes 8-bit floats of come last.
    """
    job, serving = run.job, run.job.config.serving
    if serving is None:
        return []
    chosen = [variant for variant in run.variants if serving.plans == "all" or variant.name in serving.plans]
    measured = [
        *((variant, False) for variant in distinct([run.base, *chosen])),
        *((variant, True) for variant in distinct(quantized_at_load(run))),
    ]
    return [
        BenchUnit(
            label=_label(run, variant, at_load),
            step=steps.bench_step(job, variant, at_load),
            line="bench",
            variant=variant,
            at_load=at_load,
            **of_run(run),
        )
        for variant, at_load in measured
    ]


def quantized_at_load(run: RunState) -> list[Variant]:
    """The variants in 16 bits that are measured in vLLM's own FP8, too."""
    serving = run.job.config.serving
    names = serving.fp8_at_load if serving else ()
    everything = [variant for variant in (run.base, *run.variants) if variant.remake is None]
    return [variant for variant in everything if names == "all" or variant.name in names]


def _label(run: RunState, variant: Variant, at_load: bool) -> str:
    if at_load:
        return f"{variant.name} in FP8 by vLLM against the base"
    return "the base against itself" if variant == run.base else f"{variant.name} against the base"


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
