"""Logits from residual states: the last norm and the output layer, as the model's own forward applies them."""

import torch
from transformers import PreTrainedModel

from drop_ray.models.decoder import Given, layers_replaced
from drop_ray.models.dropped import decoder_layers
from drop_ray.models.loading import Weights, complete, place


def logits_of(model: PreTrainedModel, token_ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Logits [tokens, vocabulary] from states after the last layer, [tokens, hidden_size]. token_ids: [tokens].

    The model's own forward is called, since a family may do more there than a product (Gemma 2 caps its logits).
    """
    device = model.get_input_embeddings().weight.device
    state = hidden[None].to(device)
    with layers_replaced(model, [Given(layer, state) for layer in decoder_layers(model)]):
        found: torch.Tensor = model(input_ids=token_ids[None].to(device), use_cache=False).logits
    return found[0]


def load_output(model: PreTrainedModel, weights: Weights, device: torch.device | str) -> None:
    """Load the output layer of a skeleton that is loaded but for its layers."""
    head = model.get_output_embeddings()
    name = next(name for name, module in model.named_modules() if module is head)
    place(head, weights.read(head, f"{name}."), device)
    model.tie_weights()
    complete(head)
