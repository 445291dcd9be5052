"""8-bit floats in vLLM: what the reference rounds as vLLM does, and where it cannot."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from drop_ray.models.dropped import decoder_layers
from drop_ray.models.quantized_base.fp8 import coded, scaled
from drop_ray.models.quantized_base.kinds import COMPRESSED, FIELD, FP8

CACHES = {"fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
"""What the numbers of a KV cache are, by the name of its dtype."""


class RoundedCache(DynamicCache):  # type: ignore[misc]
    """A KV cache whose numbers are in 8 bits, with a scale of 1, as vLLM takes it where a checkpoint has none.

    vLLM 0.32 rounds to nearest on a GPU, and towards zero on a CPU.
    """

    def __init__(self, config: Any, dtype: torch.dtype, is_for_cpus: bool):
        super().__init__(config=config)
        self._dtype, self._is_for_cpus = dtype, is_for_cpus

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        both = (rounded(part, self._dtype, self._is_for_cpus) for part in (keys, values))
        return super().update(*both, *args, **kwargs)


def rounded(numbers: torch.Tensor, dtype: torch.dtype, is_for_cpus: bool) -> torch.Tensor:
    """The numbers as a cache in that dtype has them, of an engine for CPUs or for GPUs."""
    largest = torch.finfo(dtype).max
    limited = numbers.clamp(-largest, largest)
    nearest = limited.to(dtype)
    if is_for_cpus:
        # Codes of one sign are in the order of their sizes: the code before is that of the next smaller number.
        before = (nearest.view(torch.uint8) - 1).view(dtype)
        is_beyond = nearest.to(numbers.dtype).abs() > limited.abs()
        return torch.where(is_beyond, before.to(numbers.dtype), nearest.to(numbers.dtype))
    return nearest.to(numbers.dtype)


@torch.no_grad()
def round_weights(model: PreTrainedModel) -> None:
    """Round every linear of the decoder layers, with a scale for each output, as vLLM does it while it loads."""
    for layer in decoder_layers(model):
        for part in layer.modules():
            if isinstance(part, nn.Linear):
                part.weight.copy_(scaled(*coded(part.weight.float(), None), None, part.weight.dtype))


def has_inputs_in_8_bits(config: Mapping[str, Any]) -> bool:
    """Whether vLLM may round what linears of a checkpoint are given. config: the content of config.json.

    It is not done here. One number on the other side of a boundary makes others in every later layer cross theirs: of
    the demo, two computations that round alike, in 16 and in 32 bits, are as far apart as one that rounds no inputs.
    """
    stated = config.get(FIELD) or {}
    if stated.get("quant_method") != COMPRESSED:
        return stated.get("quant_method") == FP8
    given = [group.get("input_activations") or {} for group in stated.get("config_groups", {}).values()]
    return any((one.get("type"), one.get("num_bits")) == ("float", 8) for one in given)
