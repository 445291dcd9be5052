"""Reads the packed weights of AutoGPTQ's `gptq` and AutoAWQ's `gemm` files, in code that shares nothing with an engine.

Both keep unsigned codes, packed into int32 words from the lowest bits up. A weight is scale * (code - zero), with one
scale and one zero for each output and group of inputs. AutoGPTQ (auto_gptq/nn_modules/qlinear/qlinear_cuda.py) packs
the inputs of a weight, and stores each zero minus one. AutoAWQ (awq/modules/linear/gemm.py) packs outputs, eight to a
word in the order 0 2 4 6 1 3 5 7, and stores zeros as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

WORD_BITS = 32
# The output, of each eight, whose code is in the first, second, ... four bits of an AutoAWQ word.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
# AutoGPTQ and AutoAWQ write float16. Their successors write bfloat16 for a bfloat16 model. Kernels convert either.
SCALE_DTYPES = (torch.float16, torch.bfloat16)
# For each method, the field of quantization_config that names its layout, and the only layout that is read here.
LAYOUTS = {"gptq": ("checkpoint_format", "gptq"), "awq": ("version", "gemm")}


@dataclass(frozen=True)
class Packing:
    """What a checkpoint's `quantization_config` promises about every packed tensor."""

    method: Literal["awq", "gptq"]
    """The method, which decides the format."""
    bits: int
    """Bits of each weight."""
    group_size: int
    """Inputs that share a scale and a zero; -1 is a whole row."""
    symmetric: bool
    """Whether every zero is in the middle of the codes."""
    desc_act: bool = False
    """Whether GPTQ assigned the groups in another order than that of the inputs."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Packing":
        """The packing that config.json states. ValueError if the checkpoint is not quantized, or in another layout."""
        fields = config.get("quantization_config") or {}
        method = fields.get("quant_method")
        if method not in LAYOUTS:
            raise ValueError(f"config.json: quantization_config.quant_method is {method}; awq and gptq can be read")
        field, layout = LAYOUTS[method]
        if fields.get(field) != layout:
            raise ValueError(f"config.json: quantization_config.{field} is {fields.get(field)}; {layout} can be read")
        symmetric = fields["sym"] if method == "gptq" else not fields["zero_point"]
        return cls(method, fields["bits"], fields["group_size"], symmetric, fields.get("desc_act") or False)

    def shape(self, qweight: tuple[int, ...]) -> tuple[int, int]:
        """[outputs, inputs] of the weight that a qweight of this shape holds."""
        rows, columns = qweight
        packed = WORD_BITS // self.bits
        return (columns, rows * packed) if self.method == "gptq" else (columns * packed, rows)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that replace the weight of a linear."""
        return ("qweight", "qzeros", "scales", *(["g_idx"] if self.method == "gptq" else []))


def dequantize(packing: Packing, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The weight of one linear, float32 [outputs, inputs], from its `packing.tensors`.

    ValueError if shapes or dtypes are not those of the layout, or if the tensors break what `packing` promises. Kernels
    rely on it: they skip zeros that are called symmetric, and a g_idx without desc_act, and would compute something
    else.
    """
    outputs, inputs = packing.shape(tuple(tensors["qweight"].shape))
    group_size = inputs if packing.group_size == -1 else packing.group_size
    _check_shapes(packing, tensors, outputs, inputs, group_size)
    zeros = _fields(tensors["qzeros"], packing.bits)
    if packing.method == "gptq":
        codes = _fields(tensors["qweight"].T, packing.bits).T
        zeros = zeros + 1 & (1 << packing.bits) - 1
        group_of = tensors["g_idx"].long()
        _check_groups(packing, group_of, group_size)
    else:
        codes, zeros = _in_order(_fields(tensors["qweight"], packing.bits)), _in_order(zeros)
        group_of = torch.arange(inputs, device=codes.device) // group_size
    if packing.symmetric and (zeros != 1 << packing.bits - 1).any():
        raise ValueError("quantization_config says symmetric, but a zero is not in the middle of the codes")
    weight = (codes - zeros[group_of]).float() * tensors["scales"].float()[group_of]
    return weight.T


def _check_shapes(
    packing: Packing, tensors: Mapping[str, torch.Tensor], outputs: int, inputs: int, group_size: int
) -> None:
    if inputs % group_size:
        raise ValueError(f"groups of {group_size} do not divide {inputs} inputs")
    groups = inputs // group_size
    shapes = {
        "qweight": tuple(tensors["qweight"].shape),
        "qzeros": (groups, outputs * packing.bits // WORD_BITS),
        "scales": (groups, outputs),
        "g_idx": (inputs,),
    }
    for name in packing.tensors:
        tensor, dtypes = tensors[name], SCALE_DTYPES if name == "scales" else (torch.int32,)
        if tuple(tensor.shape) != shapes[name] or tensor.dtype not in dtypes:
            raise ValueError(
                f"{name} is {tensor.dtype} {list(tensor.shape)}; {packing.method} has {dtypes[0]} {list(shapes[name])}"
            )


def _check_groups(packing: Packing, group_of: torch.Tensor, group_size: int) -> None:
    inputs = len(group_of)
    in_turn = torch.arange(inputs, device=group_of.device) // group_size
    if not packing.desc_act and not torch.equal(group_of, in_turn):
        raise ValueError("g_idx does not name the groups in turn, but quantization_config says desc_act false")
    if not torch.equal(group_of.sort().values, in_turn):
        raise ValueError(f"g_idx does not give {group_size} inputs to each of {inputs // group_size} groups")


def _fields(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Unsigned numbers of `bits` bits from int32 words along the last dimension, lowest bits first."""
    shifts = torch.arange(0, WORD_BITS, bits, dtype=torch.int32, device=words.device)
    return (words.unsqueeze(-1) >> shifts & (1 << bits) - 1).flatten(-2)


def _in_order(fields: torch.Tensor) -> torch.Tensor:
    """The outputs of AutoAWQ's words in their own order, along the last dimension."""
    position = torch.tensor(AWQ_ORDER, device=fields.device).argsort()
    return fields.reshape(len(fields), -1, len(AWQ_ORDER))[..., position].flatten(-2)
