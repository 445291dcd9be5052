"""`execution`: how a run is carried out."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator

from drop_ray.config.gpus import GpuName
from drop_ray.config.hardware import HardwareSpec, named
from drop_ray.config.secrets import check_options, masked
from drop_ray.config.section import Location, Section

Placement = Literal["auto", "resident", "streamed"]


class ExecutionConfig(Section):
    """How to run. None of it changes a result, so none of it is ever part of an identity.

    The serving benchmark is the exception: device, threads and `tensor_parallel` change what is timed.
    """

    num_workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1,
        description="processes that do units of work at the same time; auto is as many as there are CPUs and GPUs for "
        "when the run begins, each node by itself. A dry run counts auto as 1",
    )
    gpus_per_worker: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        0,
        description="GPUs of each worker; 0 computes on CPUs; auto is 1, and in evaluation as many as hold the model. "
        "Where a worker computes on one GPU, as in scoring, 2 workers of 4 GPUs are 8 workers of one",
    )
    cpus_per_worker: float = Field(1, gt=0, description="CPUs that Ray sets aside for each worker")
    threads_per_worker: int = Field(1, ge=1, description="threads of a CPU worker, and of a serving engine on a CPU")
    max_attempts: int = Field(3, ge=1, description="attempts at a unit whose workers are lost")
    unit_timeout: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="seconds until another worker is asked for a unit too; a worker that takes twice as long is killed "
        "and replaced. auto is ten times the median of the finished units of the kind, at least 900",
    )
    start_timeout_s: float = Field(1800, gt=0, description="seconds to wait for a first worker")
    tensor_parallel: int = Field(
        1, ge=1, description="GPUs of one engine: in the serving benchmark, and in evaluation by vllm"
    )
    layers: Placement = Field("auto", description="resident in memory, or streamed from the checkpoint")
    wave_bytes: int = Field(
        4 << 30,
        ge=1,
        description="memory for residual states, when layers are streamed or variants are compared together; a search "
        "keeps those of the base from round to round in a quarter of it besides",
    )
    cache_dir: Location | None = Field(
        None,
        description="folder on each node that keeps whole models and checkpoints from s3://; null reads a model's "
        "layers by ranges, as they are used",
    )
    cache_bytes: int | None = Field(
        None, ge=1, description="limit of cache_dir in bytes; null is whatever the disk has free"
    )
    hardware: HardwareSpec | None = Field(
        None, description="name of the GPUs, such as h100, or more about them: the dry run forecasts hours for it"
    )
    store_outage_s: float = Field(
        120, ge=0, description="seconds for which s3:// may be out of reach before the run ends"
    )
    store_options: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="s3fs options for a store or a model on s3://, such as endpoint_url or, for addresses with the "
        "bucket in the path, config_kwargs: {s3: {addressing_style: path}}; no credentials, which belong into the "
        "environment",
    )

    @field_validator("hardware", mode="before", json_schema_input_type=GpuName | HardwareSpec | None)
    @classmethod
    def _names_are_gpus(cls, value: Any) -> Any:
        return named(value)

    @field_validator("gpus_per_worker")
    @classmethod
    def _whole_above_one(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value > 1 and not value.is_integer():
            raise ValueError(f"above 1 it is a whole number of GPUs, not {value:g}; workers share a GPU by 0.5")
        return value

    @field_validator("store_options")
    @classmethod
    def _can_be_used(cls, value: dict[str, Any]) -> dict[str, Any]:
        check_options(value)
        return value

    @field_serializer("store_options")
    def _without_secrets(self, value: dict[str, Any]) -> dict[str, Any]:
        """Whatever is made of the config, such as the file in the run's folder, shows no credentials."""
        return masked(value)

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device that the run's workers compute on."""
        return "cuda" if self.gpus_per_worker else "cpu"

    @property
    def num_groups(self) -> int:
        """Groups of GPUs, or CPU workers; of `auto` 1, which no run has: it asks the cluster first."""
        return 1 if self.num_workers == "auto" else self.num_workers

    @property
    def num_devices(self) -> int:
        """Workers of a stage in which each computes on one device: all GPUs compute."""
        return self.num_groups * (1 if self.gpus_per_worker == "auto" else max(1, int(self.gpus_per_worker)))
