"""Experts in a quantization: the engine makes linears of them, and rounds those that no calibration token meets."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from drop_ray.config.quantization import QuantizationSpec
from drop_ray.errors import WorkerFailedError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.tensor_map import Recipe, map_tensors

# How the engine calls an expert's linears, in the order of their patterns in the converters of transformers.
LINEARS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
EXPERTS = "experts"


@dataclass(frozen=True)
class QuantizedExperts:
    """Which experts of a quantized model were calibrated, and which were rounded to nearest."""

    total: int
    """Routed experts in all its layers."""
    rounded: Mapping[int, tuple[int, ...]]
    """By layer, those that no calibration token met."""

    @property
    def num_rounded(self) -> int:
        return sum(map(len, self.rounded.values()))

    @property
    def names(self) -> str:
        """`layer 3: 1, 5; layer 7: 0`; empty if there are none."""
        return "; ".join(f"layer {layer}: {', '.join(map(str, found))}" for layer, found in self.rounded.items())

    def card(self, spec: QuantizationSpec) -> str:
        """What a model card says of it."""
        text = f"Its experts are quantized by {spec.method} in {spec.bits} bits, their routers are not. "
        if not self.rounded:
            return f"{text}Calibration tokens met every one of its {self.total} experts."
        return (
            f"{text}No calibration token met {self.num_rounded} of its {self.total} experts, whose weights are "
            f"rounded to nearest: {self.names}."
        )

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"total": self.total, "rounded": self.rounded}))

    @classmethod
    def read(cls, data: bytes) -> "QuantizedExperts":
        stored = json.loads(data)
        return cls(stored["total"], {int(layer): tuple(found) for layer, found in stored["rounded"].items()})


def experts_of(log: Iterable[Mapping[str, Any]]) -> QuantizedExperts:
    """From the engine's log, an entry for each linear: its `layer`, `module`, tokens (`samples`) and `loss`.

    WorkerFailedError for a linear that it rounded for another reason than that it is an expert's without tokens.
    """
    all_of_them: set[tuple[int, int]] = set()
    rounded: set[tuple[int, int]] = set()
    for entry in log:
        parts = entry["module"].split(".")
        expert = (entry["layer"], int(parts[parts.index(EXPERTS) + 1])) if EXPERTS in parts else None
        if expert is not None:
            all_of_them.add(expert)
        if "fallback" not in str(entry["loss"]):
            continue
        if expert is None or float(entry["samples"]):
            raise WorkerFailedError(
                f"layer {entry['layer']}: {entry['module']} could not be calibrated ({entry['samples']} tokens); set "
                "model.dtype to float32, or give more calibration samples"
            )
        rounded.add(expert)
    layers = sorted({layer for layer, _ in rounded})
    by_layer = {layer: tuple(sorted(number for of, number in rounded if of == layer)) for layer in layers}
    return QuantizedExperts(len(all_of_them), by_layer)


def names_in_files(model: PreTrainedModel, checkpoint: Checkpoint) -> dict[str, str]:
    """Names of modules in the checkpoint's files, by those that the engine has for them."""
    names: dict[str, str] = {}
    for recipe in map_tensors(model, checkpoint.tensors).recipes.values():
        if recipe.converter is None:
            names[_module(recipe.target)] = _module(recipe.names[0])
        else:
            names |= _experts_in_files(recipe)
    return names


def _experts_in_files(recipe: Recipe) -> dict[str, str]:
    stacked, _, kind = recipe.target.rpartition(".")
    names: dict[str, str] = {}
    for pattern, linear in zip(recipe.converter.source_patterns, LINEARS[kind], strict=True):
        # In the order of their numbers.
        inside = [name for of, name in recipe.sources if of == pattern]
        names |= {f"{stacked}.{number}.{linear}": _module(name) for number, name in enumerate(inside)}
    return names


def _module(tensor: str) -> str:
    return tensor.rpartition(".")[0]
