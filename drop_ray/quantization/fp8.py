"""FP8: weights in 8-bit floats (E4M3) with scales, made of the weights alone while a checkpoint is written.

A scale makes the largest weight that it is for the largest number of E4M3, 448, and each weight is rounded to the
nearest number. By `channel` it is for an output, in the format of compressed-tensors (`weight_scale`). By `block` it is
for 128 x 128 weights, in that of DeepSeek-V3 (arXiv 2412.19437, section 3.3; `weight_scale_inv`). What serves such a
checkpoint quantizes activations too, as config.json asks it to.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from drop_ray.config import RunConfig
from drop_ray.config.quantization import BLOCK, Fp8Spec
from drop_ray.errors import NotFiniteError, UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.decoder import layers_path
from drop_ray.models.dropped import build_skeleton, decoder_layers, drop_lists_of, read_config
from drop_ray.models.export import check_new_folder, export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.files.safetensors_writer import TensorEntry
from drop_ray.models.files.stored_tensors import byte_view
from drop_ray.models.finite import is_finite, weight_fault
from drop_ray.models.loading import Weights
from drop_ray.models.quantized_base.fp8 import coded, scaled
from drop_ray.models.quantized_base.kinds import COMPRESSED, FIELD, FP8
from drop_ray.quantization.engine import Engine

ENDINGS = {"channel": "_scale", "block": "_scale_inv"}
"""What follows a weight's name in that of its scales."""


class Fp8Engine(Engine):
    """Our own: it needs no library and no calibration."""

    def check(self, field: str, spec: Fp8Spec, checkpoint: Checkpoint) -> None:
        skeleton = build_skeleton(read_config(checkpoint), drop_lists_of(checkpoint), torch.bfloat16, "eager")
        for index, layer in enumerate(decoder_layers(skeleton)):
            linears = {f"{name}.weight" for name, module in _linears(layer)}
            for name, parameter in layer.named_parameters():
                if parameter.dim() > 1 and name not in linears:
                    raise UserError(
                        f"{field}.method: fp8 takes models whose layers have linears only, and layers.{index}.{name} "
                        f"of {checkpoint.location} belongs to none"
                    )
            for name, module in _linears(layer) if spec.scheme == "block" else ():
                if module.in_features % BLOCK or module.out_features % BLOCK:
                    raise UserError(
                        f"{field}.scheme: layers.{index}.{name} has {module.in_features} inputs and "
                        f"{module.out_features} outputs, which are no whole blocks of {BLOCK}; use channel"
                    )

    def check_served(self, spec: Fp8Spec, config: RunConfig) -> None:
        """By the kernels of vLLM 0.32: `vllm/model_executor/kernels/linear`."""
        if spec.scheme == "block" and config.execution.device == "cpu":
            raise UserError(
                f"quantization ({spec.label}).scheme: of CPUs, vLLM serves blocks on those with AMX alone; use channel"
            )

    def environment(self, device: str) -> Mapping[str, str]:  # noqa: ARG002
        return {}

    def passes(self, spec: Fp8Spec, calibration: int) -> int:  # noqa: ARG002
        return 0

    def round_to_nearest(self, weight: torch.Tensor, spec: Fp8Spec) -> torch.Tensor:
        """As the method does it, which is all that it does."""
        parts = list(_row_blocks(weight, spec))
        codes, scales = torch.cat([codes for codes, _ in parts]), torch.cat([scales for _, scales in parts])
        return scaled(codes, scales, _block(spec), torch.float32)

    def quantize(
        self,
        checkpoint: Checkpoint,
        drops: DropLists,
        spec: Fp8Spec,
        token_ids: torch.Tensor,  # noqa: ARG002
        output: Path,
        *,
        dtype: torch.dtype,  # noqa: ARG002
        device: str,  # noqa: ARG002
        provenance: Mapping[str, Any],
        card: str | None = None,
        progress: Callable[[int, int], None],
    ) -> None:
        """As of `Engine`. What is not quantized stays as it is stored.

        One weight is in memory at a time, as it is stored, and of its numbers in float32 those of 128 rows. UserError
        if `output` exists and is not empty. NotFiniteError for a weight with NaN or infinity.
        """
        check_new_folder(output)
        recoding = _Recoding(spec, checkpoint, _weight_names(checkpoint, drops))
        written: dict[str, Any] = {"provenance": provenance, "card": card, "progress": progress}
        export_checkpoint(checkpoint, drops, output, recoding=recoding, **written)


ENGINE = Fp8Engine()


def quantization_config(spec: Fp8Spec) -> dict[str, Any]:
    """`quantization_config` of config.json, with the fields that llm-compressor and DeepSeek write."""
    if spec.scheme == "block":
        return {
            "quant_method": FP8,
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [BLOCK, BLOCK],
            "modules_to_not_convert": ["lm_head"],
        }
    common = {"num_bits": 8, "type": "float", "symmetric": True}
    return {
        "quant_method": COMPRESSED,
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**common, "strategy": "channel", "dynamic": False},
                "input_activations": {**common, "strategy": "token", "dynamic": True},
                "output_activations": None,
            }
        },
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


@dataclass(frozen=True)
class _Recoding:
    """How an export stores the weights of linears."""

    spec: Fp8Spec
    """The scheme."""
    checkpoint: Checkpoint
    """The model, under whose own names they are written."""
    names: frozenset[str]
    """Names of these weights."""

    @cached_property
    def config(self) -> Mapping[str, Any]:
        return {FIELD: quantization_config(self.spec)}

    @property
    def description(self) -> str:
        return f"FP8, by {self.spec.scheme}"

    def entries(self, entry: TensorEntry) -> Sequence[TensorEntry]:
        if entry.name not in self.names:
            return [entry]
        rows, columns = entry.shape
        is_block = self.spec.scheme == "block"
        grid = (-(-rows // BLOCK), -(-columns // BLOCK)) if is_block else (rows, 1)
        scales_bytes = grid[0] * grid[1] * torch.float32.itemsize
        scales = entry.name + ENDINGS[self.spec.scheme]
        write = [partial(_write, self.checkpoint, entry.name, self.spec, part) for part in range(2)]
        return [
            TensorEntry(entry.name, "F8_E4M3", entry.shape, rows * columns, write[0]),
            TensorEntry(scales, "F32", grid, scales_bytes, write[1]),
        ]


def _write(checkpoint: Checkpoint, name: str, spec: Fp8Spec, part: int, target: BinaryIO) -> None:
    """Write the codes of a weight, or its scales: part 0 or 1 of what is made of it, which is made for each anew."""
    weight = checkpoint.read([name])[name]
    if not is_finite(weight):
        raise NotFiniteError(f"nothing is quantized: {weight_fault(name, torch.float32)}")
    for parts in _row_blocks(weight, spec):
        target.write(byte_view(parts[part]))


def _row_blocks(weight: torch.Tensor, spec: Fp8Spec) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Codes and scales of `BLOCK` rows after the other."""
    for start in range(0, len(weight), BLOCK):
        yield coded(weight[start : start + BLOCK].float(), BLOCK if spec.scheme == "block" else None)


def _block(spec: Fp8Spec) -> tuple[int, int] | None:
    return (BLOCK, BLOCK) if spec.scheme == "block" else None


def _weight_names(checkpoint: Checkpoint, drops: DropLists) -> frozenset[str]:
    """Names in the files of the weights of the linears that are kept."""
    lacking = drop_lists_of(checkpoint).union(drops)
    skeleton = build_skeleton(read_config(checkpoint), lacking, torch.bfloat16, "eager")
    weights, path = Weights(skeleton, checkpoint), layers_path(skeleton)
    return frozenset(
        weights.stored_name(f"{path}.{index}.{name}.weight")
        for index, layer in enumerate(decoder_layers(skeleton))
        for name, _ in _linears(layer)
    )


def _linears(layer: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [(name, module) for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
