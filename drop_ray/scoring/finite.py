"""Stops a sweep at NaN and infinity, with the sample, the layer and the tensor that they come from."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from transformers import PreTrainedModel

from drop_ray.errors import NotFiniteError
from drop_ray.models.decoder import layers_path
from drop_ray.models.dropped import decoder_layers
from drop_ray.models.finite import first_not_finite, state_fault, weight_fault
from drop_ray.models.sublayers import sublayer_names
from drop_ray.scoring.layers import LayerSource
from drop_ray.scoring.totals import TotalKey


def finite_totals(
    model: PreTrainedModel,
    source: LayerSource,
    samples: range,
    norms: Sequence[torch.Tensor],
    totals: Mapping[TotalKey, torch.Tensor],
) -> dict[TotalKey, list[float]]:
    """The totals of a micro-batch on the host, each with a number for every sample.

    `norms` are sums of norms of its states in their order: before layer 0, and within and after each layer. All are
    float64 [len(samples)], and come from the device at once, so that the check waits for nothing more. NotFiniteError
    if one of them is not finite.
    """
    values = torch.stack([*norms, *totals.values()]).tolist()
    for place, row in enumerate(values[: len(norms)]):
        for sample, norm in zip(samples, row, strict=True):
            if not math.isfinite(norm):
                raise NotFiniteError(f"calibration sample {sample}: {_fault(model, source, place)}")
    by_key = dict(zip(totals, values[len(norms) :], strict=True))
    for (layer, _, module, metric), row in by_key.items():
        for sample, total in zip(samples, row, strict=True):
            if not math.isfinite(total):
                raise NotFiniteError(
                    f"calibration sample {sample}: the metric {metric} gives {total} for the {module} of layer "
                    f"{layer}, whose states are finite; leave it out of scoring.metrics, or mend it"
                )
    return by_key


def _fault(model: PreTrainedModel, source: LayerSource, place: int) -> str:
    """What is wrong at a state: one of the weights before it, or that they leave the range of their type."""
    name = first_not_finite(_weights_before(model, source, place))
    if name is not None:
        return weight_fault(name, model.dtype)
    layer, is_after = divmod(place - 1, 2)
    sublayer = "MLP" if is_after else "attention"
    where = f"the residual state after the {sublayer} of layer {layer}" if place else "the embedding"
    return state_fault(where, model.dtype)


def _weights_before(model: PreTrainedModel, source: LayerSource, place: int) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights between a state and the one before it: of the embedding, of an attention or of an MLP."""
    if place == 0:
        embedding = model.get_input_embeddings()
        name = next(name for name, module in model.named_modules() if module is embedding)
        yield f"{name}.weight", embedding.weight
        return
    layer, is_after = divmod(place - 1, 2)
    names = sublayer_names(decoder_layers(model)[layer])["mlp" if is_after else "attention"]
    for name, tensor in source.tensors(layer).items():
        if name.partition(".")[0] in names:
            yield f"{layers_path(model)}.{layer}.{name}", tensor
