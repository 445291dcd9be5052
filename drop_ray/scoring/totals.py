"""Distances summed per sample, which a sweep keeps of each pair of states, and the score rows made of them."""

from collections.abc import Mapping, Sequence

import torch

from drop_ray.scoring.metrics.metric import Metric
from drop_ray.scoring.rows import ScoreRow
from drop_ray.scoring.state import State

# Key of a total: layer, gap, module, metric.
TotalKey = tuple[int, int, str, str]


def sample_totals(before: State, after: State, metrics: Mapping[str, Metric]) -> dict[str, torch.Tensor]:
    """By metric, the sums over each sample's tokens of the distances between `before` and `after`: float64 [batch]."""
    return {name: _distances(name, metric, before, after).sum(-1) for name, metric in metrics.items()}


def rows_of(values: Mapping[TotalKey, Sequence[float]], samples: range, tokens: int) -> list[ScoreRow]:
    """Score rows in table order (sample, gap, layer, module, metric) from totals, one of each sample."""
    keys = sorted(values, key=lambda key: (key[1], key[0], *key[2:]))
    return [
        ScoreRow(sample, layer, gap, module, metric, values[layer, gap, module, metric][position], tokens)
        for position, sample in enumerate(samples)
        for layer, gap, module, metric in keys
    ]


def _distances(name: str, metric: Metric, before: State, after: State) -> torch.Tensor:
    distances = metric.distances(before, after)
    if distances.shape != before.norms.shape:
        raise ValueError(
            f"metric {name} gives distances of shape {list(distances.shape)}; one of each token are "
            f"{list(before.norms.shape)}"
        )
    return distances.double()
