"""A model that is ready to be scored: its embedding on the device, its layers resident or streamed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from transformers import PreTrainedModel

from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.decoder import layers_path, parts_around_layers
from drop_ray.models.dropped import build_skeleton, decoder_layers, drop_lists_of, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.loading import Weights
from drop_ray.scoring.layers import LayerSource, ResidentLayers, StreamedLayers
from drop_ray.scoring.rows import ScoreRow
from drop_ray.scoring.sweep import SweepSettings, sweep
from drop_ray.text.progress import ignore_progress

Placement = Literal["resident", "streamed"]


class Scorer:
    """Scores samples with one model in one drop state; loading happens once, in the constructor."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        drops: DropLists,
        *,
        dtype: torch.dtype,
        attn_implementation: str | None,
        placement: Placement,
        device: torch.device | str = "cpu",
    ):
        """drops: added to the checkpoint's own drop lists. UserError if checkpoint and configuration do not fit."""
        self.drops = drop_lists_of(checkpoint).union(drops)
        self._model = build_skeleton(read_config(checkpoint), self.drops, dtype, attn_implementation)
        self._source = load_source(self._model, Weights(self._model, checkpoint), placement, device)

    def score(
        self,
        token_ids: torch.Tensor,
        samples: Sequence[range],
        settings: SweepSettings,
        progress: Callable[[int, int], None] = ignore_progress,
    ) -> Iterator[tuple[range, list[ScoreRow]]]:
        """Score samples by `drop_ray.scoring.sweep.sweep`; token_ids: [num_samples, seq_len]."""
        return sweep(self._model, self._source, token_ids, samples, settings, self.drops, progress)


def load_source(
    model: PreTrainedModel, weights: Weights, placement: Placement, device: torch.device | str
) -> LayerSource:
    """Load the modules that come before the layers of a skeleton, and return the source of its layers."""
    for name, module in parts_around_layers(model):
        weights.load(module, f"{name}.", device)
    layers, prefix = decoder_layers(model), layers_path(model)
    if placement == "streamed":
        return StreamedLayers(layers, prefix, weights, device)
    for index, layer in enumerate(layers):
        weights.load(layer, f"{prefix}.{index}.", device)
    return ResidentLayers(layers)
