"""The project's own forward pass of a (dropped) model, without a KV cache: what every engine is checked against."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from drop_ray.models.dropped import parse_dtype
from drop_ray.models.loading import load_model
from drop_ray.serving.engine import EngineSettings, Prompts, PromptScores


class Reference:
    """The model that an engine serves, computed on one device.

    A model that several devices share is computed on the host.
    """

    def __init__(self, settings: EngineSettings):
        self._device = settings.device if settings.tensor_parallel == 1 else "cpu"
        self._model = load(settings, self._device)

    @torch.inference_mode()
    def score_prompts(self, prompts: Prompts) -> PromptScores:
        parts = [scores_of(self._logits(ids), ids) for ids in map(self._row, prompts)]
        assert all(part.margins is not None for part in parts)
        return PromptScores(
            np.concatenate([part.logprobs for part in parts]),
            np.concatenate([part.top for part in parts]),
            np.concatenate([part.margins for part in parts if part.margins is not None]),
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
        logits: torch.Tensor = self._model(ids, use_cache=False).logits
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
