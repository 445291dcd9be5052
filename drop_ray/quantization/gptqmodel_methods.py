"""AWQ and GPTQ, by gptqmodel: which models it takes, what vLLM serves of it, and what it costs."""

import torch

from drop_ray.config import QuantizationSpec, RunConfig
from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.quantization.checks import check_for_gptqmodel
from drop_ray.quantization.engine import Engine
from drop_ray.quantization.gptqmodel_engine import environment, quantize
from drop_ray.quantization.round_to_nearest import on_grids

# A layer computes its samples before and after it is quantized. AWQ also computes each linear once for each of the 20
# scales that it tries (Lin et al., arXiv 2306.00978). GPTQ adds up x x^T of the inputs of each linear (Frantar et al.,
# arXiv 2210.17323), which with square matrices is as many operations as the linear itself.
PASSES = {"awq": 2 + 20, "gptq": 2 + 1}


class GptqModel(Engine):
    """gptqmodel, which continues AutoGPTQ and also writes AutoAWQ's format."""

    libraries = ("gptqmodel",)
    needed = ("gptqmodel", "optimum")
    environment = staticmethod(environment)
    quantize = staticmethod(quantize)

    def check(self, field: str, spec: QuantizationSpec, checkpoint: Checkpoint) -> None:
        check_for_gptqmodel(field, spec, checkpoint)

    def check_served(self, spec: QuantizationSpec, config: RunConfig) -> None:
        """By the kernels of vLLM 0.32: `vllm/model_executor/layers/quantization`."""
        line = f"quantization ({spec.label})"
        if spec.method == "gptq" and not spec.is_symmetric:
            raise UserError(f"{line}.symmetric: vLLM serves symmetric gptq only; leave it out")
        if spec.method == "gptq" and spec.group_size == 16 and config.execution.device == "cuda":
            raise UserError(f"{line}.group_size: vLLM's kernels for GPUs begin at 32")
        if spec.bits == 8 and config.execution.device == "cpu":
            raise UserError(f"{line}.bits: vLLM serves 4 bits only on a CPU")

    def passes(self, spec: QuantizationSpec, calibration: int) -> int:
        return PASSES[spec.method] * calibration

    def round_to_nearest(self, weight: torch.Tensor, spec: QuantizationSpec) -> torch.Tensor:
        return on_grids(weight, spec)


ENGINE = GptqModel()
