"""A quantized checkpoint read as if it were not: every linear has one weight, made from its packed tensors."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.files.stored_tensors import StoredTensor
from drop_ray.models.quantized_base.kinds import COMPRESSED, FIELD, FP8
from drop_ray.models.quantized_base.reading import DequantizedBase, as_read
from drop_ray.quantization.packing import Packing, dequantize

QWEIGHT = ".qweight"


@dataclass(frozen=True)
class DequantizedCheckpoint(Checkpoint):
    """A quantized checkpoint, opened by `open_dequantized`, whose weights are read in float32.

    They have the values that kernels compute with. Its configuration says nothing of quantization.
    """

    packing: Packing
    """How its weights are packed."""

    @cached_property
    def packed(self) -> Checkpoint:
        """The same files, as they are."""
        return Checkpoint(self.location, self.folder, self.config, self.shards, self.hashes)

    @cached_property
    def linears(self) -> tuple[str, ...]:
        """Names of the quantized linears."""
        return tuple(name.removesuffix(QWEIGHT) for name in self.packed.tensors if name.endswith(QWEIGHT))

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        replaced = {f"{linear}.{part}" for linear in self.linears for part in self.packing.tensors}
        tensors = {name: tensor for name, tensor in self.packed.tensors.items() if name not in replaced}
        for linear in self.linears:
            shape = self.packing.shape(self.packed.tensors[linear + QWEIGHT].shape)
            tensors[f"{linear}.weight"] = StoredTensor("F32", shape, math.prod(shape) * torch.float32.itemsize)
        return tensors

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The named tensors. KeyError for an unknown name. ValueError names a linear that is packed wrongly."""
        wanted = set(names)
        linears = [linear for linear in self.linears if f"{linear}.weight" in wanted]
        tensors = self.packed.read(wanted - {f"{linear}.weight" for linear in linears})
        for linear in linears:
            parts = self.packed.read(f"{linear}.{part}" for part in self.packing.tensors)
            try:
                weight = dequantize(self.packing, {name.rpartition(".")[2]: part for name, part in parts.items()})
            except ValueError as error:
                raise ValueError(f"{self.location}: {linear}: {error}") from error
            tensors[f"{linear}.weight"] = weight
        return tensors


@dataclass(frozen=True)
class DequantizedFloats(DequantizedBase):
    """The same of a checkpoint in 8-bit floats, whose scales every kernel multiplies with."""

    @property
    def linears(self) -> tuple[str, ...]:
        """Names of the quantized linears."""
        return tuple(name.removesuffix(".weight") for name in self.parts)


def open_dequantized(quantized: Checkpoint | Path | str) -> DequantizedCheckpoint | DequantizedFloats:
    """Open a quantized checkpoint, or the folder or URL of one. ValueError for a layout that is not read here."""
    opened = quantized if isinstance(quantized, Checkpoint) else open_checkpoint(quantized)
    if (opened.config.get(FIELD) or {}).get("quant_method") in (FP8, COMPRESSED):
        read = as_read(opened, torch.float32)
        assert isinstance(read, DequantizedBase)
        fields = {name: value for name, value in opened.config.items() if name != FIELD}
        own = (opened.location, opened.folder, fields, opened.shards, opened.hashes)
        return DequantizedFloats(*own, form=read.form, dtype=read.dtype)
    packing = Packing.from_config(opened.config)
    config = {name: value for name, value in opened.config.items() if name != FIELD}
    return DequantizedCheckpoint(opened.location, opened.folder, config, opened.shards, opened.hashes, packing)
