"""Logits from residual states: the last norm and the output layer, as the model's own forward applies them."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.loading import Weights, complete, place


class _Given(nn.Module):
    """Stands in for all decoder layers: gives a state that was computed before."""

    def __init__(self, hidden: torch.Tensor):
        super().__init__()
        self._hidden = hidden

    def forward(self, *_: Any, **__: Any) -> torch.Tensor:
        return self._hidden


def logits_of(model: PreTrainedModel, token_ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Logits [tokens, vocabulary] from states after the last layer, [tokens, hidden_size]. token_ids: [tokens].

    The model's own forward is called, since a family may do more there than a product (Gemma 2 caps its logits).
    """
    decoder, device = model.base_model, model.get_input_embeddings().weight.device
    layers = decoder.layers
    decoder.layers = nn.ModuleList([_Given(hidden[None].to(device))])
    try:
        found: torch.Tensor = model(input_ids=token_ids[None].to(device), use_cache=False).logits
        return found[0]
    finally:
        decoder.layers = layers


def load_output(model: PreTrainedModel, weights: Weights, device: torch.device | str) -> None:
    """Load the last norm and the output layer of a skeleton whose embedding is loaded."""
    parts = (model.base_model.norm, model.get_output_embeddings())
    names = {id(module): name for name, module in model.named_modules()}
    for module in parts:
        place(module, weights.read(module, f"{names[id(module)]}."), device)
    model.tie_weights()
    for module in parts:
        complete(module)
