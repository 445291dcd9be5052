"""MXFP4, as gpt-oss stores its experts: pairs of 4-bit floats in a byte, 32 of them with one power of two as scale.

Source: the OCP Microscaling Formats (MX) Specification 1.0: element E2M1, scale E8M0 with a bias of 127.
"""

from collections.abc import Mapping

import torch

from drop_ray.models.files.stored_tensors import StoredTensor, empty_pages
from drop_ray.models.quantized_base.form import WHOLE

BLOCKS, SCALES = "_blocks", "_scales"
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
BIAS = 127


class Mxfp4:
    """Experts whose weights are `X_blocks` [experts, rows, groups, bytes] and `X_scales` [experts, rows, groups].

    The weight X is [experts, columns, rows]: transformers multiplies from the other side.
    """

    def home(self, name: str) -> tuple[str, str]:
        for ending in (BLOCKS, SCALES):
            if name.endswith(ending):
                return name.removesuffix(ending), ending
        return name, WHOLE

    def shape(self, parts: Mapping[str, StoredTensor]) -> tuple[int, ...]:
        absent = [part for part in (BLOCKS, SCALES) if part not in parts]
        if absent:
            raise ValueError(f"its {absent[0]} are absent")
        shape = parts[BLOCKS].shape
        if len(shape) != 4 or shape[:3] != parts[SCALES].shape:
            raise ValueError(f"blocks of shape {list(shape)} and scales of shape {list(parts[SCALES].shape)}")
        experts, rows, groups, num_bytes = shape
        return experts, 2 * groups * num_bytes, rows

    def weight(self, parts: Mapping[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        blocks, scales = parts[BLOCKS], parts[SCALES]
        experts, rows, groups, num_bytes = blocks.shape
        table = torch.tensor([*E2M1, *(-value for value in E2M1)])
        weight = empty_pages((experts, 2 * groups * num_bytes, rows), dtype)
        for expert in range(experts):
            codes = torch.stack((blocks[expert] & 15, blocks[expert] >> 4), dim=-1)
            values = table[codes.reshape(rows, groups, -1).int()]
            # Three significant bits times a power of two: exact in every 16-bit type that has the exponent.
            values *= torch.exp2(scales[expert].float() - BIAS).unsqueeze(-1)
            weight[expert] = values.reshape(rows, -1).t()
        return weight
