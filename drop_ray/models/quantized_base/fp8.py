"""FP8: weights in 8-bit floats, with a scale for each block, each row or the whole tensor.

DeepSeek-V3 (arXiv 2412.19437, section 3.3) and the FP8 twins of Qwen have `weight_scale_inv` for blocks of 128 x 128;
compressed-tensors has `weight_scale`. A scale multiplies its weights in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from drop_ray.models.files.stored_tensors import StoredTensor, empty_pages
from drop_ray.models.quantized_base.form import WHOLE

CODES = torch.float8_e4m3fn
LARGEST = torch.finfo(CODES).max
SCALE, INPUT = "scale", "input"
# Endings of stored tensors, with what stands in their place in the weight's name, and the part that they are. Scales of
# inputs are for kernels in 8 bits; nothing here computes in them.
ENDINGS = (
    ("_scale_inv", "", SCALE),
    (".weight_scale", ".weight", SCALE),
    (".activation_scale", ".weight", INPUT),
    (".input_scale", ".weight", INPUT),
)


@dataclass(frozen=True)
class Fp8:
    """Weights in 8-bit floats."""

    block: tuple[int, int] | None
    """Rows and columns that have one scale; None if the scales' own shape says it."""

    def home(self, name: str) -> tuple[str, str]:
        for ending, instead, part in ENDINGS:
            if name.endswith(ending):
                return name.removesuffix(ending) + instead, part
        return name, WHOLE

    def shape(self, parts: Mapping[str, StoredTensor]) -> tuple[int, ...]:
        if WHOLE not in parts or SCALE not in parts:
            raise ValueError("its weight is absent" if WHOLE not in parts else "its scale is absent")
        return parts[WHOLE].shape

    def weight(self, parts: Mapping[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        return scaled(parts[WHOLE], parts[SCALE], self.block, dtype)


def coded(rows: torch.Tensor, width: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and float32 scales of float32 rows: a scale for each row, or for each `width` columns of all of them.

    A scale makes the largest weight the largest number. Where all weights of a scale are 0 it is 1.
    """
    if width is None:
        largest = rows.abs().amax(1, keepdim=True)
        wide = scales = torch.where(largest == 0, 1.0, largest / LARGEST)
    else:
        blocks = torch.split(rows.abs(), width, dim=1)
        largest = torch.stack([block.amax() for block in blocks])[None]
        scales = torch.where(largest == 0, 1.0, largest / LARGEST)
        wide = scales.repeat_interleave(width, dim=1)[:, : rows.shape[1]]
    # A quotient may be above the largest number by a rounding, and would become NaN.
    return (rows / wide).clamp(-LARGEST, LARGEST).to(CODES), scales


def scaled(
    codes: torch.Tensor, scales: torch.Tensor, block: tuple[int, int] | None, dtype: torch.dtype
) -> torch.Tensor:
    """codes x scales, multiplied in float32: [..., rows, columns].

    The blocks at the lower and right edge may be cut off, as in DeepSeek-V3's `kv_a_proj_with_mqa` of 576 rows. One row
    of blocks is computed at a time, so that the copy in float32 stays small.
    """
    values = empty_pages(tuple(codes.shape), dtype)
    if scales.numel() == 1:
        return values.copy_(codes.float() * scales.float().reshape(()))
    if scales.dim() == 1 and codes.dim() == 2:
        scales = scales.unsqueeze(1)
    if scales.dim() != codes.dim() or scales.shape[:-2] != codes.shape[:-2]:
        raise ValueError(f"scales of shape {list(scales.shape)} for a weight of shape {list(codes.shape)}")
    height, width = _block(codes.shape, scales.shape, block)
    matrices = zip(
        values.reshape(-1, *values.shape[-2:]),
        codes.reshape(-1, *codes.shape[-2:]),
        scales.reshape(-1, *scales.shape[-2:]),
        strict=True,
    )
    for target, matrix, grid in matrices:
        for row, factors in enumerate(grid.float()):
            rows = slice(row * height, (row + 1) * height)
            target[rows] = matrix[rows].float() * factors.repeat_interleave(width)[: matrix.shape[1]]
    return values


def _block(shape: torch.Size, grid: torch.Size, stated: tuple[int, int] | None) -> tuple[int, int]:
    """Rows and columns of a block: as stated if the grid is of such blocks, or else what divides the weight evenly."""
    rows, columns = shape[-2:]
    if stated is not None and (-(-rows // stated[0]), -(-columns // stated[1])) == tuple(grid[-2:]):
        return stated
    if rows % grid[-2] or columns % grid[-1]:
        raise ValueError(f"a grid of {grid[-2]} x {grid[-1]} scales does not fit a weight of {rows} x {columns}")
    return rows // grid[-2], columns // grid[-1]
