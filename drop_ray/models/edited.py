"""A checkpoint some of whose tensors are read with other values: whoever reads it, loads or copies it, sees those."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

import torch

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.files.stored_tensors import ShardView, byte_view
from drop_ray.models.quantized_base.in_16_bits import in_16_bits, names_of_weights


class Edit(Protocol):
    """Which tensors get other values, and which."""

    def edits(self, name: str) -> bool:
        """name: of a tensor, as the files have it."""

    def edit(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """New values in the tensor's own shape and dtype."""


def edited(checkpoint: Checkpoint, edits: Sequence[Edit]) -> Checkpoint:
    """The checkpoint as changed by each edit in turn. UserError for an edit that changes no tensor of it.

    Changed weights of a quantized base lie in 16 bits beside the others.
    """
    names = names_of_weights(checkpoint)
    changed = [[name for name in names if edit.edits(name)] for edit in edits]
    for edit, found in zip(edits, changed, strict=True):
        if not found:
            raise UserError(f"{edit} changes no tensor of {checkpoint.location}; does it name the model's own tensors?")
    checkpoint = in_16_bits(checkpoint, dict.fromkeys(name for found in changed for name in found))
    return replace(checkpoint, shards=tuple(EditedShard(shard, tuple(edits)) for shard in checkpoint.shards))


@dataclass(frozen=True)
class EditedShard(ShardView):
    """A file of weights, some of whose tensors are changed while they are read."""

    edits: tuple[Edit, ...]
    """Applied in this order."""

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        tensors = self.shard.read(names)
        return {name: self._edited(name, tensor) for name, tensor in tensors.items()}

    def copy(self, name: str, target: BinaryIO) -> None:
        if any(edit.edits(name) for edit in self.edits):
            target.write(byte_view(self.read([name])[name]))
        else:
            self.shard.copy(name, target)

    def _edited(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        shape, dtype = tensor.shape, tensor.dtype
        for edit in self.edits:
            if edit.edits(name):
                tensor = edit.edit(name, tensor)
        if (tensor.shape, tensor.dtype) != (shape, dtype):
            raise UserError(
                f"a change made {name} {list(tensor.shape)} {tensor.dtype} of {list(shape)} {dtype}; "
                "an edit must keep shape and dtype"
            )
        return tensor.contiguous()
