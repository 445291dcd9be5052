"""Integers packed in 32-bit words, as compressed-tensors stores them (`pack-quantized`): Kimi K2's experts.

A word has 32 / bits codes, the first in its lowest bits. A code less half of the codes' range, times the scale of its
group, is the weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from drop_ray.models.files.stored_tensors import StoredTensor, empty_pages
from drop_ray.models.quantized_base.form import WHOLE
from drop_ray.models.quantized_base.fp8 import SCALE, Fp8

PACKED, SHAPE = "packed", "shape"
ENDINGS = ((".weight_packed", PACKED), (".weight_shape", SHAPE))
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class PackedInt:
    """Weights of a mixture of formats: packed integers where there are such, 8-bit floats elsewhere."""

    bits: int
    """Of a packed code."""
    group_size: int | None
    """Columns that have one scale; None if a whole row has."""
    floats: Fp8
    """The form of the other quantized weights."""

    def home(self, name: str) -> tuple[str, str]:
        for ending, part in ENDINGS:
            if name.endswith(ending):
                return name.removesuffix(ending) + ".weight", part
        return self.floats.home(name)

    def shape(self, parts: Mapping[str, StoredTensor]) -> tuple[int, ...]:
        if PACKED not in parts:
            return self.floats.shape(parts)
        if SCALE not in parts or WHOLE in parts:
            raise ValueError("its scale is absent" if SCALE not in parts else "it is stored both packed and not")
        rows, words = parts[PACKED].shape
        columns = parts[SCALE].shape[-1] * self.group_size if self.group_size else words * 32 // self.bits
        if parts[SCALE].shape[0] != rows or -(-columns * self.bits // 32) != words:
            raise ValueError(f"{rows} x {words} words do not have {list(parts[SCALE].shape)} scales")
        return rows, columns

    def weight(self, parts: Mapping[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        if PACKED not in parts:
            return self.floats.weight(parts, dtype)
        packed, scales = parts[PACKED], parts[SCALE]
        columns = scales.shape[1] * self.group_size if self.group_size else packed.shape[1] * 32 // self.bits
        if SHAPE in parts and parts[SHAPE].tolist() != [packed.shape[0], columns]:
            raise ValueError(
                f"its weight_shape is {parts[SHAPE].tolist()}, its words hold {[packed.shape[0], columns]}"
            )
        weight = empty_pages((packed.shape[0], columns), dtype)
        shifts = torch.arange(0, 32, self.bits, dtype=torch.int32)
        mask, middle = (1 << self.bits) - 1, 1 << (self.bits - 1)
        for start in range(0, packed.shape[0], ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            codes = ((packed[rows].unsqueeze(-1) >> shifts) & mask).flatten(1)[:, :columns] - middle
            factors = scales[rows].repeat_interleave(columns // scales.shape[1], dim=1)
            weight[rows] = codes.float() * factors.float()
        return weight
