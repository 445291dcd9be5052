"""The arguments with which a model calls its layers, found by running its forward with stand-ins for the layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.dropped import decoder_layers


@dataclass(frozen=True)
class LayerInputs:
    """What the model's forward gives its layers for one micro-batch."""

    hidden: torch.Tensor
    """The state before layer 0, [batch, seq_len, hidden_size]."""
    keyword_arguments: tuple[dict[str, Any], ...]
    """Keyword arguments of each layer's call, such as position embeddings and masks."""


class _Recorder(nn.Module):
    """Stands in for a decoder layer: keeps the arguments of the call, returns the state unchanged."""

    def __init__(self, calls: list[tuple[torch.Tensor, dict[str, Any]]]):
        super().__init__()
        self._calls = calls

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args:
            raise TypeError(f"a decoder layer is called with {len(args)} more positional arguments; only keywords fit")
        self._calls.append((hidden_states, kwargs))
        return hidden_states


class InputRecorder:
    """Computes layer inputs for micro-batches of token ids. Of all weights it needs only the embedding's."""

    def __init__(self, model: PreTrainedModel):
        self._model = model
        # A keyword argument depends on the shape of the batch only (there is no padding), and masks are large.
        self._by_shape: dict[torch.Size, tuple[dict[str, Any], ...]] = {}

    def __call__(self, token_ids: torch.Tensor) -> LayerInputs:
        """token_ids: [batch, seq_len] on the model's device."""
        calls: list[tuple[torch.Tensor, dict[str, Any]]] = []
        with _stand_ins(self._model, calls):
            self._model.base_model(token_ids, use_cache=False)
        arguments = self._by_shape.setdefault(token_ids.shape, tuple(kwargs for _, kwargs in calls))
        return LayerInputs(calls[0][0], arguments)


@contextmanager
def _stand_ins(model: PreTrainedModel, calls: list[tuple[torch.Tensor, dict[str, Any]]]) -> Iterator[None]:
    decoder = model.base_model
    layers, norm = decoder_layers(model), decoder.norm
    decoder.layers, decoder.norm = nn.ModuleList(_Recorder(calls) for _ in layers), nn.Identity()
    try:
        yield
    finally:
        decoder.layers, decoder.norm = layers, norm
