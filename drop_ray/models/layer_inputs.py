"""The arguments with which a model calls its layers, found by running its forward with stand-ins for the layers."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.decoder import InPlaceOfLayer, layers_replaced, split_arguments
from drop_ray.models.sublayers import find_layers


@dataclass(frozen=True)
class LayerInputs:
    """What the model's forward gives its layers for one micro-batch."""

    hidden: torch.Tensor
    """The state before layer 0, [batch, seq_len, hidden_size]."""
    keyword_arguments: tuple[dict[str, Any], ...]
    """Other arguments of each layer's call by name, such as position embeddings and masks."""


def layer_inputs(model: PreTrainedModel, token_ids: torch.Tensor) -> LayerInputs:
    """token_ids: [batch, seq_len] on the model's device. Of all weights it needs those before the layers."""
    calls: list[tuple[torch.Tensor, dict[str, Any]]] = []
    layers = find_layers(model)
    recorders = [_Recorder(layer, calls, len(layers)) for layer in layers]
    with layers_replaced(model, recorders), suppress(_AllCalledError):
        model.base_model(token_ids, use_cache=False)
    return LayerInputs(calls[0][0], tuple(kwargs for _, kwargs in calls))


class _AllCalledError(Exception):
    """Ends the forward pass behind the last layer: what comes then may have no weights yet."""


class _Recorder(InPlaceOfLayer):
    """Keeps the arguments of the call, and returns the state unchanged."""

    def __init__(self, layer: nn.Module, calls: list[tuple[torch.Tensor, dict[str, Any]]], count: int):
        super().__init__(layer)
        self._calls, self._count = calls, count

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        hidden, named = split_arguments(self._layer, args, kwargs)
        self._calls.append((hidden, named))
        if len(self._calls) == self._count:
            raise _AllCalledError
        return self.returned(hidden)
