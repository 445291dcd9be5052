"""The actor of the serving benchmark. Its engines run in processes of their own: here nothing of vLLM is imported."""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from drop_ray.errors import DropRayError
from drop_ray.job.artifacts import CHECKPOINT, SERVING, SERVING_FACTS, SERVING_SCHEMA
from drop_ray.models.families import DropLists
from drop_ray.models.location import load_tokenizer
from drop_ray.runtime.units import BenchUnit
from drop_ray.runtime.worker import Worker
from drop_ray.serving.bench import BenchResult, run_bench
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.preflight import kv_shards
from drop_ray.serving.spec import BenchSpec
from drop_ray.serving.workloads import equal_memory_batch, ordinary_tokens
from drop_ray.store import Commit, Step
from drop_ray.store.tables import write_table


@dataclass(frozen=True)
class BenchFailure:
    """In place of commits: why a unit has no result. It is no exception, so that the other units are measured."""

    message: str


class BenchWorker(Worker):
    """Measures one plan at a time, with the device to itself."""

    def run(self, unit: BenchUnit) -> list[Commit] | BenchFailure:  # type: ignore[override]
        done = self._setup.store.find(unit.step)
        if done is not None:
            return [done]
        commit = unit.quantized
        quantized = None if commit is None else self._cache.folder_of(self._setup.store, commit, CHECKPOINT)
        try:
            return [self._commit_bench(unit.step, run_bench(self._spec(unit, quantized)))]
        except DropRayError as error:
            return BenchFailure(str(error))
        finally:
            if quantized is not None:
                self._cache.release(quantized)

    def _spec(self, unit: BenchUnit, quantized: Path | None) -> BenchSpec:
        """quantized: folder of the plan's checkpoint, if it is a quantized one."""
        checkpoint = self._checkpoint
        tokenizer = load_tokenizer(checkpoint.folder)
        plan = self._settings(unit, unit.drops)
        if quantized is not None:
            plan = replace(plan, folder=str(quantized), own_drops=unit.drops, quantized=True)
        # Also added tokens that no text gives, and rows of the embedding that no token has.
        special = {*tokenizer.all_special_ids}
        special |= {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        vocab_size = checkpoint.config["vocab_size"]
        return BenchSpec(
            serving=unit.serving,
            base=self._settings(unit, unit.base_drops),
            plan=plan,
            size=unit.size,
            vocab_size=vocab_size,
            tokens=ordinary_tokens(min(vocab_size, len(tokenizer)), special),
            text=unit.text,
            kv_shards=kv_shards(checkpoint.config, unit.tensor_parallel),
            plan_layer_bytes=unit.spec.bytes_per_weight if unit.spec else None,
            control=unit.drops == unit.base_drops and quantized is None,
        )

    def _settings(self, unit: BenchUnit, drops: DropLists) -> EngineSettings:
        serving = unit.serving
        ratio = unit.size.kv_bytes_per_token(unit.base_drops), unit.size.kv_bytes_per_token(drops)
        return EngineSettings(
            kind=serving.engine,
            folder=str(self._checkpoint.folder),
            drops=drops,
            own_drops=unit.base_drops,
            dtype=serving.dtype or self._setup.model.dtype,
            device=unit.device,
            max_model_len=serving.model_len,
            # The plan's larger batch at equal memory, as far as it can be known before.
            max_batch=equal_memory_batch(serving.batch_sizes[-1], *ratio[::-1], None),
            kv_cache_bytes=unit.kv_cache_bytes,
            threads=self._setup.threads,
            attn_implementation=self._setup.model.attn_implementation,
            tensor_parallel=unit.tensor_parallel,
            enforce_eager=serving.enforce_eager,
            seed=serving.seed,
        )

    def _commit_bench(self, step: Step, result: BenchResult) -> Commit:
        with tempfile.TemporaryDirectory() as folder:
            table, facts = Path(folder) / SERVING, Path(folder) / SERVING_FACTS
            write_table(pa.Table.from_pylist(result.rows, SERVING_SCHEMA), table)
            facts.write_text(json.dumps(result.facts, indent=1, sort_keys=True))
            return self._commit(step, {SERVING: table, SERVING_FACTS: facts})
