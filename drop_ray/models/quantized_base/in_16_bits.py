"""A quantized base some of whose weights lie in 16 bits beside the others, so that they can get other values.

A changed weight is not quantized anew, into a model that nobody measured. `quantization_config` lists its module among
those that are not quantized, by which transformers and vLLM read the tensor as it is.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, BinaryIO

import torch

from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.files.stored_tensors import ShardView, StoredTensor, byte_view
from drop_ray.models.quantized_base.kinds import COMPRESSED, FIELD, quantized_kind
from drop_ray.models.quantized_base.reading import DequantizedBase, as_read

# The field that lists modules which are not quantized, of compressed-tensors and of all others.
IGNORED, NOT_CONVERTED = "ignore", "modules_to_not_convert"


def names_of_weights(checkpoint: Checkpoint) -> Collection[str]:
    """The tensors of a checkpoint as they are read: a quantized weight is one, of the parts that it is stored in."""
    return as_read(checkpoint, torch.bfloat16).tensors


def in_16_bits(checkpoint: Checkpoint, names: Iterable[str]) -> Checkpoint:
    """The checkpoint with the named tensors in 16 bits; itself where none of them is stored quantized."""
    base = as_read(checkpoint, _dtype(checkpoint.config))
    if not isinstance(base, DequantizedBase):
        return checkpoint
    made = {name: base.parts[name] for name in names if name in base.parts}
    if not made:
        return checkpoint
    gone = frozenset(part for parts in made.values() for part in parts.values())
    shards = []
    for shard in checkpoint.shards:
        # In the file of its first part.
        here = frozenset(name for name, parts in made.items() if next(iter(parts.values())) in shard.tensors)
        shards.append(_PartlyMade(shard, base, here, gone))
    modules = [name.removesuffix(".weight") for name in made]
    config = {**checkpoint.config, FIELD: _with_modules(checkpoint.config, checkpoint.location, modules)}
    return replace(checkpoint, config=config, shards=tuple(shards))


@dataclass(frozen=True)
class _PartlyMade(ShardView):
    """A file of weights with some made of their parts, in place of these."""

    base: DequantizedBase
    """The checkpoint, which makes them."""
    made: frozenset[str]
    """Names of the weights that lie in this file."""
    gone: frozenset[str]
    """Names of the parts of all such weights, in any file."""

    @cached_property
    def tensors(self) -> Mapping[str, StoredTensor]:
        own = {name: tensor for name, tensor in self.shard.tensors.items() if name not in self.gone}
        return {**own, **{name: self.base.tensors[name] for name in sorted(self.made)}}

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        wanted = {*names}
        return self.shard.read(wanted - self.made) | self.base.read(wanted & self.made)

    def copy(self, name: str, target: BinaryIO) -> None:
        if name in self.made:
            target.write(byte_view(self.read([name])[name]))
        else:
            self.shard.copy(name, target)


def _dtype(config: Mapping[str, Any]) -> torch.dtype:
    """That of the tensors that are not quantized, as config.json states it."""
    stated = config.get("dtype") or config.get("torch_dtype")
    return torch.float16 if stated == "float16" else torch.bfloat16


def _with_modules(config: Mapping[str, Any], location: str, modules: list[str]) -> dict[str, Any]:
    fields = config[FIELD]
    name = IGNORED if quantized_kind(config, location) == COMPRESSED else NOT_CONVERTED
    return {**fields, name: [*(fields.get(name) or ()), *modules]}
