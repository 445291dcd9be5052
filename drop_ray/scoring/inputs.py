"""The arguments with which a model calls its layers, for one micro-batch after the other."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from drop_ray.models.layer_inputs import LayerInputs, layer_inputs

__all__ = ["InputRecorder", "LayerInputs"]


class InputRecorder:
    """Computes layer inputs for micro-batches of token ids. Of all weights it needs those before the layers."""

    def __init__(self, model: PreTrainedModel):
        self._model = model
        # Masks are large, and the same for all micro-batches of a shape, as there is no padding.
        self._by_shape: dict[torch.Size, tuple[dict[str, Any], ...]] = {}

    def __call__(self, token_ids: torch.Tensor) -> LayerInputs:
        """token_ids: [batch, seq_len] on the model's device."""
        inputs = layer_inputs(self._model, token_ids)
        known = self._by_shape.setdefault(token_ids.shape, inputs.keyword_arguments)
        if known is inputs.keyword_arguments:
            return inputs
        pairs = zip(known, inputs.keyword_arguments, strict=True)
        return LayerInputs(inputs.hidden, tuple(_shared(old, new) for old, new in pairs))


def _shared(known: Mapping[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments, with those of another micro-batch in the places of equal ones."""
    return {name: known[name] if _equal(known.get(name), value) else value for name, value in arguments.items()}


def _equal(known: Any, value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return isinstance(known, torch.Tensor) and known.shape == value.shape and torch.equal(known, value)
    if isinstance(value, tuple):
        return isinstance(known, tuple) and all(map(_equal, known, value))
    return False  # such as an object in which layers leave something for each other
