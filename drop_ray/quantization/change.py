"""Quantizing as a change of a model: its identity, its step, and how its checkpoint is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from drop_ray.config.quantization import AnyQuantization
from drop_ray.planning.changes import Remake
from drop_ray.quantization.engine import engine_of
from drop_ray.store import Step
from drop_ray.store.versions import public_versions


@dataclass(frozen=True, eq=False)
class Quantize(Remake):
    """One line of the config's `quantization`, with what it calibrates on. Lines that differ in their names or in the
    plans that they are for are equal."""

    kind: ClassVar[str] = "quantize"
    field: ClassVar[str] = "quantized"
    spec: AnyQuantization
    """The method and its settings."""
    dtype: str
    """Dtype of the tensors that are not quantized."""
    samples: Mapping[str, Any]
    """Identity of the text that it is calibrated on and measured on."""

    @property
    def label(self) -> str:
        return self.spec.label

    def identity(self) -> Mapping[str, Any]:
        return {"dtype": self.dtype, **self.spec.identity(), "samples": self.samples}

    @property
    def libraries(self) -> tuple[str, ...]:
        return engine_of(self.spec).libraries

    def step(self, base: str, before: Mapping[str, Any]) -> Step:
        """A quantized checkpoint, with the errors of its layers on the samples held out."""
        return Step(
            "quantize",
            {
                "algorithm": 1,
                "versions": public_versions(["torch", "transformers", *self.libraries]),
                "model": base,
                **before,
                **self.identity(),
            },
        )

    def environment(self, device: str) -> Mapping[str, str]:
        return engine_of(self.spec).environment(device)

    def load(self, folder: Path, *, device: str, dtype: str, attn_implementation: str) -> Any:
        from drop_ray.models.dropped import parse_dtype
        from drop_ray.models.quantized import load_quantized

        return load_quantized(folder, device=device, dtype=parse_dtype(dtype), attn_implementation=attn_implementation)

    @property
    def bytes_per_weight(self) -> float:
        return self.spec.bytes_per_weight
