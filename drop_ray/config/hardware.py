"""`execution.hardware`: what GPUs can do, for the forecast and for limits that are a speedup."""

from typing import Any

from pydantic import Field, model_validator

from drop_ray.config.gpus import GPUS, Gpu, GpuName
from drop_ray.config.section import Section


class HardwareSpec(Section):
    """The GPUs that a forecast or a speedup is of: a name or own values, and what part is reached.

    It decides the forecast, and what is dropped by a plan whose `limit` is a speedup. Nothing is guessed: without it
    there is no forecast, and such a plan is refused.
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

    def seconds(self, flops: float, num_bytes: float) -> float:
        """Of one GPU: the longer of doing operations and moving bytes at the parts of the peak rates that are reached.

        Williams et al., "Roofline", CACM 2009.
        """
        peak = self.peak
        return max(
            flops / (peak.flops * self.compute_efficiency), num_bytes / (peak.bandwidth * self.bandwidth_efficiency)
        )


def named(value: Any) -> Any:
    """A name alone is a GPU of that name."""
    return {"gpu": value} if isinstance(value, str) else value
