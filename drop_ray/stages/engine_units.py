"""What units that start engines have in common: benchmarks of variants, and of variants as drafts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drop_ray.config import ServingConfig
from drop_ray.job.run_state import RunState
from drop_ray.job.units import Unit
from drop_ray.job.worker import Worker
from drop_ray.models.accounting import ModelSize
from drop_ray.models.families import DropLists
from drop_ray.planning.variants import Variant
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.preflight import serving_size
from drop_ray.store import Commit


@dataclass(frozen=True)
class EngineUnit(Unit):
    """A unit that starts engines of a variant and of the base."""

    variant: Variant
    """The variant that is measured; the base itself is the control."""
    base: Variant
    """The base that it is measured against."""
    serving: ServingConfig
    """The `serving` section of the config."""
    size: ModelSize
    """Size of the base, in the dtypes that it is served in."""
    device: Literal["cpu", "cuda"]
    """The device that the engines compute on."""
    kv_cache_bytes: int | None
    """Bytes of KV cache of each engine on each device; None leaves it to the engine."""
    tensor_parallel: int
    """Number of GPUs of one engine."""
    text: Sequence[Sequence[int]] = ()
    """Calibration samples of equal length that engines are checked on; set when the unit is sent."""
    made: Commit | None = None
    """Commit of the variant's own checkpoint, if it has one; set when the unit is sent."""

    @property
    def model_key(self) -> object:
        return self.variant

    def settings(self, worker: Worker, drops: DropLists, max_model_len: int, max_batch: int) -> EngineSettings:
        """Of an engine of the base's weights without the sub-layers of `drops`."""
        serving, setup = self.serving, worker.setup
        return EngineSettings(
            kind=serving.engine,
            folder=str(worker.checkpoint().folder),
            drops=drops,
            own_drops=self.base.drops,
            dtype=serving.dtype or setup.model.dtype,
            device=self.device,
            max_model_len=max_model_len,
            max_batch=max_batch,
            kv_cache_bytes=self.kv_cache_bytes,
            threads=setup.threads,
            attn_implementation=setup.model.attn_implementation,
            tensor_parallel=self.tensor_parallel,
            enforce_eager=serving.enforce_eager,
            seed=serving.seed,
            kv_cache_dtype=serving.kv_cache_dtype,
        )


def of_run(run: RunState) -> dict[str, Any]:
    """The fields that all such units of a run have the same."""
    job = run.job
    return {
        "base": run.base,
        "serving": job.config.serving,
        "size": serving_size(job.config, job.size),
        "device": job.config.execution.device,
        "kv_cache_bytes": job.kv_cache_bytes,
        "tensor_parallel": job.config.execution.tensor_parallel,
    }
