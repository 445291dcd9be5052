"""transformers as an engine, for models that vLLM has no class for: one batch at a time, with its own KV cache."""

import resource
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from drop_ray.models.dropped import decoder_layers
from drop_ray.models.sublayers import sublayer_names
from drop_ray.serving.engine import EngineFacts, EngineSettings, Generation, Prompts, PromptScores, RequestTiming
from drop_ray.serving.reference import load, scores_of

# Length of the prompt that the KV cache is measured on.
PROBE_TOKENS = 8


class TransformersEngine:
    """An engine that runs a batch in step: one forward pass over the prompts, then one for each further token."""

    def __init__(self, settings: EngineSettings):
        self._settings = settings
        self._model = load(settings, settings.device)

    def facts(self) -> EngineFacts:
        settings = self._settings
        layers, kv_bytes, state_bytes = self._kv_cache
        budget = settings.kv_cache_bytes
        tokens = budget // kv_bytes if budget is not None and kv_bytes else None
        return EngineFacts(
            version=transformers.__version__,
            device=torch.cuda.get_device_name() if settings.device == "cuda" else "cpu",
            kv_tokens=tokens,
            kv_blocks=tokens,
            block_size=1,
            kv_layers=layers,
            kv_bytes_per_token=kv_bytes,
            weights_bytes=sum(parameter.nbytes for parameter in self._model.parameters()),
            state_bytes=state_bytes,
        )

    @torch.inference_mode()
    def generate(self, prompts: Prompts, output_length: int) -> Generation:
        start = time.perf_counter()
        output = self._forward(self._tensor(prompts), None)
        tokens = [output.logits[:, -1].argmax(-1, keepdim=True)]
        self._synchronize()
        first = time.perf_counter() - start
        for _ in range(output_length - 1):
            output = self._forward(tokens[-1], output.past_key_values)
            tokens.append(output.logits[:, -1].argmax(-1, keepdim=True))
        self._synchronize()
        wall = time.perf_counter() - start
        timing = RequestTiming(first, (wall - first) / (output_length - 1) if output_length > 1 else None, wall)
        rows = torch.cat(tokens, dim=1).tolist()
        return Generation(wall, (timing,) * len(prompts), tuple(map(tuple, rows)))

    @torch.inference_mode()
    def score_prompts(self, prompts: Prompts) -> PromptScores:
        """Score the prompts through the KV cache, as generation does: first their first half, then the second."""
        ids = self._tensor(prompts)
        first, second = ids.tensor_split(2, dim=1)
        before = self._forward(first, None, logits_to_keep=0)
        after = self._forward(second, before.past_key_values, logits_to_keep=0)
        return scores_of(torch.cat([before.logits, after.logits], dim=1), ids)

    def peak_memory_bytes(self) -> int:
        if self._settings.device == "cuda":
            return int(torch.cuda.max_memory_reserved())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    @cached_property
    def _kv_cache(self) -> tuple[tuple[int, ...], int, int]:
        """The layers that have keys and values in a real cache, its bytes per token, and those of constant states."""
        with torch.inference_mode():
            cache = self._forward(torch.zeros(1, PROBE_TOKENS, dtype=torch.long), None).past_key_values
        filled = {index for index, layer in enumerate(cache.layers) if getattr(layer, "keys", None) is not None}
        # Kept layers are numbered anew in the cache; a stand-in for attention has no number.
        numbers = [_cache_number(layer) for layer in decoder_layers(self._model)]
        layers = tuple(layer for layer, number in enumerate(numbers) if number in filled)
        kv_bytes = sum(cache.layers[index].keys.nbytes + cache.layers[index].values.nbytes for index in filled)
        return layers, kv_bytes // PROBE_TOKENS, sum(tensor.nbytes for tensor in _states(cache))

    def _forward(self, ids: torch.Tensor, cache: Any, logits_to_keep: int = 1) -> Any:
        return self._model(
            ids.to(self._settings.device), past_key_values=cache, use_cache=True, logits_to_keep=logits_to_keep
        )

    def _tensor(self, prompts: Prompts) -> torch.Tensor:
        return torch.from_numpy(np.array(prompts, np.int64)).to(self._settings.device)

    def _synchronize(self) -> None:
        if self._settings.device == "cuda":
            torch.cuda.synchronize()


def _states(cache: Any) -> Iterator[torch.Tensor]:
    """The states of linear attention, state spaces and convolutions in a cache."""
    for layer in cache.layers:
        for name in ("conv_states", "recurrent_states"):
            states = getattr(layer, name, None) or ()
            for state in states.values() if isinstance(states, dict) else states:
                if isinstance(state, torch.Tensor):
                    yield state


def _cache_number(layer: nn.Module) -> int | None:
    """The place in the cache of a layer's keys and values, or of its state; None where it has no mixer."""
    for name in sublayer_names(layer)["attention"]:
        for part in getattr(layer, name).modules():
            number: int | None = getattr(part, "layer_idx", None)
            if number is not None:
                return number
    return None
