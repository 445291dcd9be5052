"""`execution.hardware`: what the GPUs of a run can do, for the forecast of the dry run."""

from typing import Any

from pydantic import Field, model_validator

from drop_ray.config.gpus import GPUS, Gpu, GpuName
from drop_ray.config.section import Section


class HardwareSpec(Section):
    """The GPUs that a forecast is made for: a name, or values of your own; and which part of them is reached.

    It decides nothing but the forecast. Nothing is guessed: without it none is made.
    """

    gpu: GpuName | None = Field(None, description="name of the GPU, whose data sheet has the three values below")
    flops: float | None = Field(None, gt=0, description="dense bfloat16 operations per second of a GPU")
    bandwidth: float | None = Field(None, gt=0, description="bytes per second between a GPU and its memory")
    memory: float | None = Field(None, gt=0, description="bytes of memory of a GPU")
    compute_efficiency: float = Field(0.4, gt=0, le=1, description="part of `flops` that is reached")
    bandwidth_efficiency: float = Field(0.7, gt=0, le=1, description="part of `bandwidth` that is reached")
    load_bandwidth: float = Field(
        2.5e9, gt=0, description="bytes per second at which a worker brings weights onto its GPUs"
    )
    start_s: float = Field(90, ge=0, description="seconds that an engine takes to start, besides its weights")
    price_per_gpu_hour: float | None = Field(None, gt=0, description="price of a GPU for an hour, in your currency")

    @model_validator(mode="after")
    def _is_complete(self) -> "HardwareSpec":
        own = {"flops": self.flops, "bandwidth": self.bandwidth, "memory": self.memory}
        missing = [f"`{name}`" for name, value in own.items() if value is None]
        if self.gpu is None and missing:
            raise ValueError(f"{', '.join(missing)} must be given, or the name of a `gpu`: {', '.join(GPUS)}")
        return self

    @property
    def peak(self) -> Gpu:
        """What a GPU can do at most; a value of the user's own goes before that of the data sheet."""
        known = GPUS[self.gpu] if self.gpu else Gpu(0, 0, 0)
        return Gpu(self.flops or known.flops, self.bandwidth or known.bandwidth, self.memory or known.memory)


def named(value: Any) -> Any:
    """A name alone is a GPU of that name."""
    return {"gpu": value} if isinstance(value, str) else value
