"""What makes quantized checkpoints: one engine for each group of methods, found by a method's name."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from drop_ray.config import AnyQuantization, RunConfig
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.families import DropLists
from drop_ray.quantization.experts import QuantizedExperts

ENGINES = {
    "awq": "drop_ray.quantization.gptqmodel_methods:ENGINE",
    "gptq": "drop_ray.quantization.gptqmodel_methods:ENGINE",
    "fp8": "drop_ray.quantization.fp8:ENGINE",
}
"""Location of the engine of each method, as `module:attribute`."""


class Engine(ABC):
    """Quantizes by the methods that it is listed for."""

    libraries: tuple[str, ...] = ()
    """Libraries whose versions decide what a checkpoint computes, besides torch and transformers."""
    needed: tuple[str, ...] = ()
    """Libraries that every node must have."""

    @abstractmethod
    def check(self, field: str, spec: Any, checkpoint: Checkpoint) -> None:
        """UserError, before any work, if the model cannot be quantized so. Only its config.json is read.

        field: place of the line in the config, such as `quantization[0]`.
        """

    @abstractmethod
    def check_served(self, spec: Any, config: RunConfig) -> None:
        """UserError if vLLM, by which the run serves or evaluates, has no kernels for such a checkpoint."""

    @abstractmethod
    def environment(self, device: str) -> Mapping[str, str]:
        """Environment variables with which the processes that quantize and load the checkpoint start."""

    @abstractmethod
    def passes(self, spec: Any, calibration: int) -> int:
        """How often a layer computes a sample, over all samples that are calibrated on."""

    @abstractmethod
    def round_to_nearest(self, weight: torch.Tensor, spec: Any) -> torch.Tensor:
        """A weight as it is without calibration: float32 [outputs, inputs], as `weight` is."""

    @abstractmethod
    def quantize(
        self,
        checkpoint: Checkpoint,
        drops: DropLists,
        spec: Any,
        token_ids: torch.Tensor,
        output: Path,
        *,
        dtype: torch.dtype,
        device: str,
        provenance: Mapping[str, Any],
        card: str | None = None,
        progress: Callable[[int, int], None],
    ) -> QuantizedExperts | None:
        """Write the model without the sub-layers of `drops`, quantized, to the new folder `output`.

        Returns which of its experts were calibrated; None where it has none, or nothing is calibrated.
        token_ids: calibration samples, int64 [num_samples, seq_len]; dtype: of what is not quantized. `provenance` and
        `card` are as of `export_checkpoint`, `progress` is told (done, of how many).
        """


def engine_of(spec: AnyQuantization) -> Engine:
    """The engine of a line's method."""
    module, _, attribute = ENGINES[spec.method].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)
    return engine
