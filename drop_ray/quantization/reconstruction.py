"""How far the sub-layers of a quantized model are from those in 16 bits, on text that it was not calibrated on.

Every sub-layer gets the input that it has in the 16-bit model, so that an error is that of one sub-layer and not of
those before it. What a sub-layer adds to the residual stream is compared, and not single weights: these mean nothing,
since AWQ moves scales between a norm and the linears behind it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from drop_ray.config import AnyQuantization
from drop_ray.errors import NotFiniteError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.decoder import layers_path
from drop_ray.models.dropped import build_skeleton, decoder_layers, drop_lists_of, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.finite import state_fault
from drop_ray.models.loading import Weights
from drop_ray.models.sublayers import drop_indices, sublayer_names
from drop_ray.quantization.dequantized import open_dequantized
from drop_ray.quantization.experts import names_in_files
from drop_ray.quantization.round_to_nearest import rounded
from drop_ray.scoring.inputs import InputRecorder, LayerInputs
from drop_ray.scoring.layers import StreamedLayers
from drop_ray.scoring.scorer import load_source
from drop_ray.text.progress import ignore_progress

Sublayer = Literal["attention", "mlp"]


@dataclass(frozen=True)
class LayerError:
    """The error of one sub-layer, in squared sums over all held-out tokens and hidden dimensions."""

    layer: int
    """Number of the decoder layer."""
    module: Sublayer
    """The sub-layer: `attention` or `mlp`."""
    squared_output: float
    """sum||y||^2 of what the 16-bit sub-layer adds to the residual stream."""
    squared_method: float
    """sum||y_q - y||^2 of the sub-layer with the method's weights."""
    squared_round_to_nearest: float
    """The same with weights rounded to nearest."""

    @property
    def method(self) -> float:
        """Relative error of the method, sum||y_q - y||^2 / sum||y||^2."""
        return _ratio(self.squared_method, self.squared_output)

    @property
    def round_to_nearest(self) -> float:
        """Relative error of rounding to nearest."""
        return _ratio(self.squared_round_to_nearest, self.squared_output)


@torch.inference_mode()
def reconstruction_errors(
    checkpoint: Checkpoint,
    drops: DropLists,
    quantized: Checkpoint | Path | str,
    spec: AnyQuantization,
    token_ids: torch.Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = ignore_progress,
) -> list[LayerError]:
    """One error for each sub-layer that is there, in order.

    `checkpoint` is the 16-bit model. `drops` names what is dropped from it besides its own lists. `quantized` is the
    model without these sub-layers, quantized as `spec` says. `token_ids` are held-out samples, int64 [num_samples,
    seq_len]. `dtype` is that of weights and states. In bfloat16 a relative error is about 2e-5 larger, as much as 8
    bits add. `progress` is told (layers done, layers).

    Layers are streamed: at most three are on the device and three more on the host, besides the states of all samples.
    ValueError if the quantized files break their own format or have other drop lists. UserError if tensors are missing.
    NotFiniteError for a sub-layer that gives NaN or infinity.
    """
    drops = drop_lists_of(checkpoint).union(drops)
    packed = open_dequantized(quantized)
    _check_drops(packed.config, drops)
    model = build_skeleton(read_config(checkpoint), drops, dtype)
    source = load_source(model, Weights(model, checkpoint), "streamed", device)
    prefix = layers_path(model)
    nearest = rounded(checkpoint, map(names_in_files(model, checkpoint).get, packed.linears, packed.linears), spec)
    sources = [
        StreamedLayers(decoder_layers(skeleton), prefix, Weights(skeleton, weights), device)
        for skeleton, weights in (
            (build_skeleton(read_config(checkpoint), drops, dtype), packed),
            (build_skeleton(read_config(checkpoint), drops, dtype), nearest),
        )
    ]

    recorder = InputRecorder(model)
    samples = [_Sample(recorder(sample[None].to(device))) for sample in token_ids]
    errors: list[LayerError] = []
    with ExitStack() as stack:
        waves = [stack.enter_context(one.wave()) for one in (source, *sources)]
        for index, (layer, *others) in enumerate(zip(*waves, strict=True)):
            errors += _layer_errors(index, _kept(index, drops), layer, others, samples)
            progress(index + 1, len(decoder_layers(model)))
    return errors


class _Sample:
    """One held-out sample on its way through the 16-bit model."""

    def __init__(self, inputs: LayerInputs):
        self.hidden = inputs.hidden
        self.keyword_arguments = inputs.keyword_arguments


@dataclass(frozen=True)
class _Pass:
    """What happens when one sample passes through a layer."""

    added: dict[Sublayer, torch.Tensor]
    """What each sub-layer adds to the residual stream, [1, seq_len, hidden_size]."""
    mlp_input: torch.Tensor
    """The residual state between attention and MLP, [1, seq_len, hidden_size]."""
    hidden: torch.Tensor
    """The residual state after the layer, [1, seq_len, hidden_size]."""


def _layer_errors(
    index: int, kept: Sequence[Sublayer], exact: nn.Module, others: Sequence[nn.Module], samples: Sequence[_Sample]
) -> list[LayerError]:
    """The errors of one layer. The samples move on through it.

    `others` are the layer with the method's weights, and the layer with weights rounded to nearest.
    """
    sums = {sublayer: [0.0, 0.0, 0.0] for sublayer in kept}
    for number, sample in enumerate(samples):
        arguments = sample.keyword_arguments[index]
        right = _run(exact, kept, sample.hidden, arguments)
        passes = [_run(other, kept, sample.hidden, arguments, right.mlp_input) for other in others]
        for sublayer, totals in sums.items():
            output = right.added[sublayer].float()
            differences = [other.added[sublayer].float() - output for other in passes]
            for position, values in enumerate([output, *differences]):
                totals[position] += float(values.square().sum(dtype=torch.float64))
            if not all(map(math.isfinite, totals)):
                where = f"what the {sublayer} of layer {index} adds to the residual stream"
                raise NotFiniteError(f"held-out sample {number}: {state_fault(where, sample.hidden.dtype)}")
        sample.hidden = right.hidden
    return [LayerError(index, sublayer, *totals) for sublayer, totals in sums.items()]


def _run(
    layer: nn.Module,
    kept: Sequence[Sublayer],
    hidden: torch.Tensor,
    keyword_arguments: Mapping[str, Any],
    mlp_input: torch.Tensor | None = None,
) -> _Pass:
    """Take a sample through a layer. A given `mlp_input` enters the MLP in place of the state after attention."""
    names = sublayer_names(layer)
    added: dict[Sublayer, torch.Tensor] = {}
    seen: list[torch.Tensor] = []

    def enter_mlp(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        seen.append(args[0])
        return None if mlp_input is None else (mlp_input, *args[1:])

    def leave(sublayer: Sublayer, _: nn.Module, __: Any, output: Any) -> None:
        added[sublayer] = output[0] if isinstance(output, tuple) else output

    with ExitStack() as hooks:
        hooks.enter_context(getattr(layer, names["mlp"][0]).register_forward_pre_hook(enter_mlp))
        for sublayer in kept:
            # The last of a sub-layer's modules is the norm behind it, where a family has one.
            last = getattr(layer, names[sublayer][-1])
            hooks.enter_context(last.register_forward_hook(partial(leave, sublayer)))
        after = layer(hidden, **keyword_arguments)
    return _Pass(added, seen[0], after)


def _kept(index: int, drops: DropLists) -> list[Sublayer]:
    dropped: dict[Sublayer, tuple[int, ...]] = {"attention": drops.attn, "mlp": drops.mlp}
    return [sublayer for sublayer, layers in dropped.items() if index not in layers]


def _check_drops(config: Mapping[str, Any], drops: DropLists) -> None:
    lists = DropLists(*(tuple(drop_indices(config.get(field))) for field in ("drop_attn_list", "drop_mlp_list")))
    if lists != drops:
        raise ValueError(f"the quantized checkpoint lacks {lists.as_identity()}, not {drops.as_identity()}")


def _ratio(error: float, output: float) -> float:
    if error == 0:  # such as of the inserted blocks of LLaMA Pro, which add nothing before they are trained
        return 0.0
    return error / output if output else math.inf
