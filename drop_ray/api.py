"""The two calls for a notebook: load a checkpoint, score a model. No Ray, no store."""

from collections import defaultdict
from pathlib import Path

import torch
from transformers import PreTrainedModel

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import decoder_layers, drop_lists_of_model, parse_dtype
from drop_ray.models.loading import load_model
from drop_ray.models.probe import check_architecture
from drop_ray.scoring.layers import ResidentLayers
from drop_ray.scoring.sweep import SweepSettings, sweep


def load(
    path: str | Path, *, dtype: str | None = None, device: str = "cpu", allow_unlisted: bool = False
) -> PreTrainedModel:
    """Load a base or dropped checkpoint for inference; dtype None keeps the checkpoint's own.

    path: a local folder or s3://bucket/prefix; allow_unlisted: take an architecture that no test covers, if a small
    model of it stands a probe.
    Unlike transformers it refuses a checkpoint with missing or unexpected tensors (UserError) instead of filling
    parameters with random values.
    """
    checkpoint = open_checkpoint(path)
    check_architecture(checkpoint, allow_unlisted)
    return load_model(checkpoint, dtype=parse_dtype(dtype) if dtype else None, device=device)


def score(model: PreTrainedModel, token_ids: torch.Tensor, *, micro_batch: int = 4) -> dict[str, list[float]]:
    """Importance S = 1 - mean cosine of every attention layer, MLP and block; low means redundant.

    token_ids: [num_samples, seq_len]. Returns {"attention" | "mlp" | "block": one float per layer}; a sub-layer that
    the model lacks has nan.
    """
    drops = drop_lists_of_model(model)
    layers = decoder_layers(model)
    source, settings = ResidentLayers(layers), SweepSettings(micro_batch)
    totals: dict[tuple[str, int], float] = defaultdict(float)
    for _, rows in sweep(model, source, token_ids, [range(len(token_ids))], settings, drops):
        for row in rows:
            totals[row.module, row.layer] += row.total
    return {
        module: [totals.get((module, index), float("nan")) / token_ids.numel() for index in range(len(layers))]
        for module in ("attention", "mlp", "block")
    }
