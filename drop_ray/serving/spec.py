"""One benchmark: a plan against its base, with all that the measuring needs to know of the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drop_ray.config import ServingConfig
from drop_ray.models.accounting import ModelSize
from drop_ray.serving.engine import EngineSettings, Prompts

Arm = Literal["base", "plan"]
ARMS: tuple[Arm, Arm] = ("base", "plan")

# Starts an engine, or the reference, in a process of its own; it has `wait`, which returns it loaded. The second
# argument says whose it is.
Start = Callable[[EngineSettings, str], Any]


@dataclass(frozen=True)
class BenchSpec:
    """base, plan: the engines. size: of the base model in the benchmark's dtype. tokens: that prompts are drawn from;
    text: calibration samples for the gate, all of one length. kv_shards: devices that share a token's KV cache.
    plan_layer_bytes: of a weight in the plan's layers, None if it is as the base's. control: base against itself."""

    serving: ServingConfig
    base: EngineSettings
    plan: EngineSettings
    size: ModelSize
    vocab_size: int
    tokens: Sequence[int]
    text: Prompts
    kv_shards: int
    control: bool
    plan_layer_bytes: float | None = None

    def settings(self, arm: Arm) -> EngineSettings:
        return self.base if arm == "base" else self.plan
