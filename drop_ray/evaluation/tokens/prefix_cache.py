"""The keys and values of a prefix that many rows begin with."""

import threading
from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel


class PrefixCache:
    """Computed with the first batch of rows, and let go with the last of `batches`. Threads may share it."""

    def __init__(self, model: PreTrainedModel, tokens: Sequence[int], batches: int):
        self._model, self._tokens, self._left = model, tokens, batches
        self._states: list[tuple[int, torch.Tensor, torch.Tensor]] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tokens)

    def of_rows(self, rows: int) -> DynamicCache | None:
        """A cache for one batch of that many rows, to which it may add; None for an empty prefix."""
        if not self._tokens:
            return None
        with self._lock:
            states = self._states or self._computed()
            self._left -= 1
            self._states = states if self._left else None
        cache = DynamicCache()
        for layer, keys, values in states:
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        return cache

    @torch.inference_mode()
    def _computed(self) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        """Keys and values of each layer that has attention, [1, heads, tokens, width].

        Of layers with windows too all tokens are kept: the masks of the rows say which of them are seen.
        """
        cache = DynamicCache()
        ids = torch.tensor([list(self._tokens)], device=self._model.device)
        self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return [(index, layer.keys, layer.values) for index, layer in enumerate(cache.layers) if layer.is_initialized]
