"""From the states behind the last layer to KL divergences, by the model's own forward around its layers."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.decoder import Given, layers_replaced, parts_around_layers
from drop_ray.models.dropped import decoder_layers
from drop_ray.models.loading import Weights, complete, place, release

# Tokens whose logits are in memory at a time.
POSITIONS = 256


class Head:
    """What is around the layers of a skeleton, loaded, with whatever its forward does around them."""

    def __init__(self, model: PreTrainedModel, weights: Weights, device: torch.device | str):
        self._model, self._device = model, device
        embedding = model.get_input_embeddings()
        around = [module for _, module in parts_around_layers(model) if module is not embedding]
        self._parts: list[nn.Module] = [*around, model.get_output_embeddings()]
        for part in self._parts:
            self._load(part, weights)
        if model.get_output_embeddings().weight.is_meta:  # a tied head, whose tensor is the embedding's
            self._parts.append(model.get_input_embeddings())
            self._load(self._parts[-1], weights)
            model.tie_weights()
        for part in self._parts:
            complete(part)

    def log_probabilities(self, state: torch.Tensor) -> torch.Tensor:
        """state: [1, tokens, hidden_size] behind the last layer; returns float32 [1, tokens, vocabulary]."""
        state = state.to(self._device)
        with layers_replaced(self._model, [Given(layer, state) for layer in decoder_layers(self._model)]):
            logits = self._model(inputs_embeds=torch.zeros_like(state), use_cache=False).logits
        return logits.float().log_softmax(-1)  # type: ignore[no-any-return]

    def divergences(self, base: torch.Tensor, others: Sequence[torch.Tensor]) -> list[float]:
        """Mean KL(base || other) per token of one sample, in nats. States: [tokens, hidden_size] behind the layers."""
        sums = [0.0] * len(others)
        for start in range(0, len(base), POSITIONS):
            part = slice(start, start + POSITIONS)
            expected = self.log_probabilities(base[None, part])
            for index, other in enumerate(others):
                found = self.log_probabilities(other[None, part])
                sums[index] += float((expected.exp() * (expected - found)).sum(dtype=torch.float64))
        return [total / len(base) for total in sums]

    def _load(self, part: nn.Module, weights: Weights) -> None:
        name = next(name for name, module in self._model.named_modules() if module is part)
        place(part, weights.read(part, f"{name}."), self._device)

    def release(self) -> None:
        """Give back the memory of the weights."""
        release(self._parts)
