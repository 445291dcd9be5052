"""Which `quantization` sections are refused before any work."""

import importlib.util
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from drop_ray.config import AnyQuantization, QuantizationSpec
from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import build_skeleton, decoder_layers, drop_lists_of, read_config
from drop_ray.models.quantized_base.kinds import check_in_16_bits
from drop_ray.models.split_experts import split_experts
from drop_ray.models.sublayers import sublayer_names
from drop_ray.quantization.engine import engine_of
from drop_ray.quantization.families import QUANTIZABLE, REFUSED

# Group sizes that all of gptqmodel's kernels take.
GROUP_SIZES = (16, 32, 64, 128)
WORD_BITS = 32
# gptqmodel searches AWQ's clipping for so many outputs at a time.
AWQ_OUTPUTS = 64


def check_quantization(specs: Sequence[AnyQuantization], checkpoint: Checkpoint) -> None:
    """UserError, with the field and the remedy, if the model cannot be quantized as `specs` ask.

    Causes are a library that is missing, an architecture that the engine does not take, and a group size that no kernel
    knows or that does not divide a width of a linear. `checkpoint` is the run's model, and only its config.json is
    read.
    """
    if not specs:
        return
    check_in_16_bits(checkpoint.config, checkpoint.location, "quantization")
    for position, spec in enumerate(specs):
        engine_of(spec).check(f"quantization[{position}]", spec, checkpoint)


def check_for_gptqmodel(field: str, spec: QuantizationSpec, checkpoint: Checkpoint) -> None:
    """The same for one line of its methods; field: the line's place in the config."""
    check_libraries()
    _check_architecture(f"{field}.method", spec, read_config(checkpoint).architectures[0])
    _check_widths(f"{field}.group_size", spec, _linears(checkpoint))


def check_libraries() -> None:
    missing = [name for name in ("gptqmodel", "optimum") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"quantization: {missing[0]} is not installed; pip install 'drop-ray[quantization]', or on a CPU "
            "pip install --no-deps -r requirements/cpu-full.lock"
        )


def _check_architecture(field: str, spec: QuantizationSpec, architecture: str) -> None:
    entry = QUANTIZABLE.get(architecture)
    if entry is None:
        reason = f" ({REFUSED[architecture]})" if architecture in REFUSED else ""
        raise UserError(f"{field}: {architecture} cannot be quantized{reason}; these can: {', '.join(QUANTIZABLE)}")
    if spec.method not in entry.methods:
        raise UserError(
            f"{field}: {architecture} cannot be quantized by {spec.method} ({entry.note}); use "
            f"{' or '.join(entry.methods)}"
        )


def _check_widths(field: str, spec: QuantizationSpec, linears: Sequence[tuple[str, nn.Linear]]) -> None:
    fitting = [size for size in GROUP_SIZES if all(linear.in_features % size == 0 for _, linear in linears)]
    if spec.group_size != -1 and spec.group_size not in fitting:
        reason = next(
            (
                f"does not divide the {linear.in_features} inputs of {name}"
                for name, linear in linears
                if linear.in_features % spec.group_size
            ),
            "is no size that kernels know",
        )
        remedy = f"use {' or '.join(map(str, fitting))}" if fitting else "no size fits this model"
        whole_rows = ", or -1 for whole rows" if spec.method == "gptq" else ""
        raise UserError(f"{field}: {spec.group_size} {reason}; {remedy}{whole_rows}")
    method = field.replace("group_size", "method")
    for name, linear in linears:
        if spec.method == "awq" and linear.out_features % AWQ_OUTPUTS:
            raise UserError(
                f"{method}: {name} has {linear.out_features} outputs, awq takes multiples of {AWQ_OUTPUTS}; use gptq"
            )
    in_a_word = WORD_BITS // spec.bits
    for name, linear in linears:
        if linear.in_features % in_a_word or linear.out_features % in_a_word:
            raise UserError(
                f"{method}: {name} has {linear.in_features} inputs and "
                f"{linear.out_features} outputs, which {spec.method} cannot pack {in_a_word} in a word"
            )


def _linears(checkpoint: Checkpoint) -> list[tuple[str, nn.Linear]]:
    """The linears that are quantized, by name."""
    model = build_skeleton(read_config(checkpoint), drop_lists_of(checkpoint), torch.bfloat16, "eager")
    split_experts(model)
    return [
        (f"layers.{index}.{part}.{name}", module)
        for index, layer in enumerate(decoder_layers(model))
        for part in _parts(layer)
        for name, module in layer.get_submodule(part).named_modules()
        if isinstance(module, nn.Linear)
    ]


def _parts(layer: nn.Module) -> Iterator[str]:
    for names in sublayer_names(layer).values():
        yield from names
