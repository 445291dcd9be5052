"""From the states behind the last layer to KL divergences, by the model's own forward around its layers."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.dropped import decoder_layers
from drop_ray.models.loading import Weights, complete, place, release

# Tokens whose logits are in memory at a time.
POSITIONS = 256


class _Given(nn.Module):
    """Stands in for a decoder layer: returns a state that is given to it beforehand."""

    state: torch.Tensor

    def forward(self, *_: object, **__: object) -> torch.Tensor:
        return self.state


class Head:
    """The last norm and the output layer of a skeleton, loaded, with whatever its forward does around them."""

    def __init__(self, model: PreTrainedModel, weights: Weights, device: torch.device | str):
        self._model, self._device = model, device
        self._parts: list[nn.Module] = [model.base_model.norm, model.get_output_embeddings()]
        for part in self._parts:
            self._load(part, weights)
        if model.get_output_embeddings().weight.is_meta:  # a tied head, whose tensor is the embedding's
            self._parts.append(model.get_input_embeddings())
            self._load(self._parts[-1], weights)
            model.tie_weights()
        for part in self._parts:
            complete(part)
        self._given = _Given()

    def log_probabilities(self, state: torch.Tensor) -> torch.Tensor:
        """state: [1, tokens, hidden_size] behind the last layer; returns float32 [1, tokens, vocabulary]."""
        decoder, layers = self._model.base_model, decoder_layers(self._model)
        self._given.state = state.to(self._device)
        decoder.layers = nn.ModuleList([self._given] * len(layers))
        try:
            logits = self._model(inputs_embeds=torch.zeros_like(self._given.state), use_cache=False).logits
        finally:
            decoder.layers = layers
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
