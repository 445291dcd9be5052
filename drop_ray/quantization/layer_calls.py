"""The arguments that a model calls each of its layers with, found without its weights."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.scoring.inputs import InputRecorder


def record_calls(skeleton: PreTrainedModel, seq_len: int) -> tuple[dict[str, Any], ...]:
    """The keyword arguments of each decoder layer for one sequence: position embeddings, and the mask of its kind."""
    embedding = skeleton.base_model.embed_tokens
    skeleton.base_model.embed_tokens = _NoEmbedding(skeleton.config.hidden_size, skeleton.dtype)
    try:
        return InputRecorder(skeleton)(torch.zeros(1, seq_len, dtype=torch.long)).keyword_arguments
    finally:
        skeleton.base_model.embed_tokens = embedding


class _NoEmbedding(nn.Module):
    def __init__(self, hidden_size: int, dtype: torch.dtype):
        super().__init__()
        self._hidden_size, self._dtype = hidden_size, dtype

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*token_ids.shape, self._hidden_size, dtype=self._dtype)
