"""One benchmark: a variant against its base, with what the measurements need to know of the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drop_ray.config import ServingConfig
from drop_ray.models.accounting import ModelSize
from drop_ray.serving.engine import EngineSettings, Prompts

Side = Literal["base", "variant"]
SIDES: tuple[Side, Side] = ("base", "variant")

# Starts an engine, or the reference, in a process of its own. Its `wait` returns it loaded. The second argument is its
# name in messages.
Start = Callable[[EngineSettings, str], Any]


@dataclass(frozen=True)
class BenchSpec:
    """What to benchmark, and on what."""

    serving: ServingConfig
    """The `serving` section of the config."""
    base: EngineSettings
    """How to build the engine of the base."""
    variant: EngineSettings
    """How to build the engine of the variant."""
    size: ModelSize
    """Size of the base model in the benchmark's dtype."""
    vocab_size: int
    """Rows of the output layer."""
    tokens: Sequence[int]
    """Token ids that prompts are drawn from."""
    text: Prompts
    """Calibration samples for the gate, all of one length."""
    kv_shards: int
    """Number of devices that a token's KV cache is divided among."""
    control: bool
    """Whether the base is measured against itself."""
    variant_layer_bytes: float | None = None
    """Bytes of one weight in the variant's decoder layers; None if they are as in the base."""

    def settings(self, side: Side) -> EngineSettings:
        return self.base if side == "base" else self.variant
