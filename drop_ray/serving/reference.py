"""The project's own forward pass of a (dropped) model, without a KV cache: what every engine is checked against."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import parse_dtype
from drop_ray.models.loading import load_model
from drop_ray.serving.eight_bits import CACHES, RoundedCache, has_inputs_in_8_bits, round_weights
from drop_ray.serving.engine import EightBits, EngineSettings, Prompts, PromptScores


class Reference:
    """The model that an engine serves, computed on one device.

    A model that several devices share is computed on the host.
    """

    def __init__(self, settings: EngineSettings):
        self._device = settings.device if settings.tensor_parallel == 1 else "cpu"
        self._model = load(settings, self._device)
        if settings.fp8_at_load:
            round_weights(self._model)
        self._cached, self._is_for_cpus = CACHES.get(settings.kv_cache_dtype), settings.device == "cpu"
        has_inputs = settings.fp8_at_load or has_inputs_in_8_bits(
            open_checkpoint(settings.folder, weights=False).config
        )
        self._in_8_bits: EightBits | None = "inputs" if has_inputs else "cache" if self._cached else None

    @torch.inference_mode()
    def score_prompts(self, prompts: Prompts) -> PromptScores:
        parts = [scores_of(self._logits(ids), ids) for ids in map(self._row, prompts)]
        assert all(part.margins is not None for part in parts)
        return PromptScores(
            np.concatenate([part.logprobs for part in parts]),
            np.concatenate([part.top for part in parts]),
            np.concatenate([part.margins for part in parts if part.margins is not None]),
            self._in_8_bits,
        )

    @torch.inference_mode()
    def greedy(self, prompts: Prompts, output_length: int) -> tuple[tuple[int, ...], ...]:
        """The most probable continuation of each prompt, every token from a full forward pass."""
        return tuple(self._continued(prompt, output_length) for prompt in prompts)

    def _continued(self, prompt: Sequence[int], output_length: int) -> tuple[int, ...]:
        ids = list(prompt)
        for _ in range(output_length):
            ids.append(int(self._logits(self._row(ids))[0, -1].argmax()))
        return tuple(ids[len(prompt) :])

    def _row(self, prompt: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(prompt)], device=self._device)

    def _logits(self, ids: torch.Tensor) -> torch.Tensor:
        # With a cache in the model's own dtype the logits would be the same.
        cache = None if self._cached is None else RoundedCache(self._model.config, self._cached, self._is_for_cpus)
        logits: torch.Tensor = self._model(ids, past_key_values=cache, use_cache=cache is not None).logits
        return logits


def load(settings: EngineSettings, device: str) -> PreTrainedModel:
    """The model that the reference and the transformers engine run.

    Its classes are the project's own. A quantized model computes with the kernels of gptqmodel.
    """
    dtype = parse_dtype(settings.dtype)
    if settings.quantized:
        from drop_ray.models.quantized import load_quantized

        return load_quantized(
            Path(settings.folder), device=device, dtype=dtype, attn_implementation=settings.attn_implementation
        )
    return load_model(
        settings.folder,
        settings.drops,
        dtype=dtype,
        device=device,
        attn_implementation=settings.attn_implementation,
    )


def scores_of(logits: torch.Tensor, ids: torch.Tensor) -> PromptScores:
    """The scores of one batch of prompts, with log-probabilities taken in float32.

    `logits` is [batch, seq_len, vocabulary], and `ids` is int64 [batch, seq_len].
    """
    logprobs = logits[:, :-1].float().log_softmax(-1)
    own = logprobs.gather(-1, ids[:, 1:, None])[..., 0]
    best = logprobs.topk(2, dim=-1)
    return PromptScores(
        own.double().flatten().cpu().numpy(),
        best.indices[..., 0].flatten().cpu().numpy(),
        (best.values[..., 0] - best.values[..., 1]).double().flatten().cpu().numpy(),
    )
