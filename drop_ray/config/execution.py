"""`execution`: how to run."""

from typing import Annotated, Any, Literal

from pydantic import Field

from drop_ray.config.section import Section

Placement = Literal["auto", "resident", "streamed"]


class ExecutionConfig(Section):
    """How to run. None of it changes a result, so none of it is ever part of an identity.

    The serving benchmark is the exception: device, threads and `tensor_parallel` change what is timed.
    """

    num_workers: int = Field(1, ge=1)
    gpus_per_worker: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        0, description="auto: one, and to evaluate as many as hold the model, by the memory of the cluster's GPUs"
    )
    cpus_per_worker: float = Field(1, gt=0)
    threads_per_worker: int = Field(1, ge=1, description="of a CPU worker, and of a serving engine on a CPU")
    max_attempts: int = Field(3, ge=1, description="of a unit whose worker was lost")
    start_timeout_s: float = Field(1800, gt=0, description="to wait for a first worker")
    tensor_parallel: int = Field(1, ge=1, description="GPUs of one engine in the serving benchmark")
    layers: Placement = Field("auto", description="resident in memory, or streamed from the checkpoint")
    wave_bytes: int = Field(4 << 30, ge=1, description="host memory for residual states when layers are streamed")
    cache_dir: str | None = Field(
        None,
        description="folder on each node for what workers fetch from s3://, shared by them. If it is set, a model "
        "there is fetched as a whole before the work, and read from the folder ever after; if not, its layers are read "
        "by ranges while they are used. Checkpoints of which other libraries need a folder are fetched in any case, to "
        "~/.cache/drop-ray if this is null",
    )
    cache_bytes: int | None = Field(None, ge=1, description="of cache_dir, at most; null is whatever the disk has free")
    store_outage_s: float = Field(120, ge=0, description="how long s3:// may be out of reach before the run ends")
    store_options: dict[str, Any] = Field(
        default_factory=dict,
        description="s3fs options for a store or a model on s3://, such as endpoint_url or, for addresses with the "
        "bucket in the path, config_kwargs: {s3: {addressing_style: path}}",
    )

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """What the run's workers compute on."""
        return "cuda" if self.gpus_per_worker else "cpu"
