"""Quantization without calibration, which a method that looks at data has to beat."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO

import torch

from drop_ray.config import AnyQuantization, QuantizationSpec
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.files.stored_tensors import ShardView, byte_view
from drop_ray.quantization.engine import engine_of


def round_to_nearest(weight: torch.Tensor, spec: AnyQuantization) -> torch.Tensor:
    """A weight as the line's method would have it without calibration: float32 [outputs, inputs], as `weight` is."""
    return engine_of(spec).round_to_nearest(weight, spec)


def on_grids(weight: torch.Tensor, spec: QuantizationSpec) -> torch.Tensor:
    """Each weight moved to the nearest point of its group's grid: float32 [outputs, inputs], as `weight` is.

    The grids are those that the methods themselves lay over a group. They reach from the smallest to the largest of its
    weights and zero, or lie symmetric about zero. Their scales are in float16, as in the files. ValueError if the group
    size of `spec` does not divide the inputs.
    """
    inputs = weight.shape[-1]
    group_size = inputs if spec.group_size == -1 else spec.group_size
    if inputs % group_size:
        raise ValueError(f"groups of {group_size} do not divide {inputs} inputs")
    groups = weight.float().reshape(-1, inputs // group_size, group_size)
    last = 2**spec.bits - 1
    if spec.is_symmetric:
        largest = groups.abs().amax(-1, keepdim=True)
        # AWQ keeps the largest weight, and leaves the last negative code unused. GPTQ splits the range evenly.
        scale = _scale(largest / (last // 2 if spec.method == "awq" else last / 2))
        zero = torch.full_like(scale, 2 ** (spec.bits - 1))
    else:
        low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
        scale = _scale((high - low) / last)
        zero = (-low / scale).round().clamp(0, last)
    codes = ((groups / scale).round() + zero).clamp(0, last)
    return ((codes - zero) * scale).flatten(-2)


def _scale(exact: torch.Tensor) -> torch.Tensor:
    """The scale as a file holds it. It is 1 for a group too small for float16, whose weights then become zero."""
    stored = exact.half().float()
    return torch.where(stored == 0, 1.0, stored)


def rounded(checkpoint: Checkpoint, linears: Iterable[str], spec: AnyQuantization) -> Checkpoint:
    """The checkpoint, whose weights of these linears are read as rounded. `linears` are names in its files."""
    weights = frozenset(f"{linear}.weight" for linear in linears)
    return replace(checkpoint, shards=tuple(_RoundedShard(shard, weights, spec) for shard in checkpoint.shards))


@dataclass(frozen=True)
class _RoundedShard(ShardView):
    """A file of weights, some of which are rounded while they are read."""

    weights: frozenset[str]
    """Names of these."""
    spec: AnyQuantization
    """How they are rounded."""

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        tensors = self.shard.read(names)
        return {
            name: round_to_nearest(tensor, self.spec) if name in self.weights else tensor
            for name, tensor in tensors.items()
        }

    def copy(self, name: str, target: BinaryIO) -> None:
        target.write(byte_view(self.read([name])[name]))
