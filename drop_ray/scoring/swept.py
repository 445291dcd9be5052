"""The metrics of one sweep by what they see, and what they make of a layer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from drop_ray.scoring.metrics.metric import AttentionMetric, StateMetric, WeightMetric, metrics_of
from drop_ray.scoring.state import State


@dataclass(frozen=True)
class SweptMetrics:
    """Metrics by name. All totals are sums over each sample's tokens, float64 [batch]."""

    states: Mapping[str, StateMetric]
    """Those of residual states."""
    weights: Mapping[str, WeightMetric]
    """Those of weights."""
    attentions: Mapping[str, AttentionMetric]
    """Those of attention probabilities."""
    _of_layers: dict[int, dict[tuple[str, str], float]] = field(default_factory=dict)
    """Scores of weights by layer, which are the same for all samples."""

    @classmethod
    def of(cls, names: Iterable[str]) -> "SweptMetrics":
        """UserError if a metric cannot be loaded."""
        known = tuple(names)
        return cls(metrics_of(known, StateMetric), metrics_of(known, WeightMetric), metrics_of(known, AttentionMetric))

    def state_totals(self, module: str, before: State, after: State) -> dict[str, torch.Tensor]:
        """By metric, of the distances between the states before and after a module."""
        return {
            name: _of_tokens(name, metric.distances(before, after), before.norms)
            for name, metric in self.states.items()
            if module in metric.modules
        }

    def attention_totals(self, probabilities: torch.Tensor, before: State) -> dict[str, torch.Tensor]:
        """By metric, of an attention's probabilities, [batch, heads, seq_len, keys]. before: the state before it."""
        return {
            name: _of_tokens(name, metric.scores(probabilities), before.norms)
            for name, metric in self.attentions.items()
        }

    def weight_totals(
        self, index: int, layer: nn.Module, modules: Sequence[str], before: State
    ) -> dict[tuple[str, str], torch.Tensor]:
        """By module and metric, of the weights of the layer of that index. modules: what it has."""
        if index not in self._of_layers:
            self._of_layers[index] = {
                (module, name): metric.score(layer, module)
                for name, metric in self.weights.items()
                for module in metric.modules
                if module in modules
            }
        tokens = torch.full_like(before.norms, before.norms.shape[1], dtype=torch.float64)[:, 0]
        return {key: score * tokens for key, score in self._of_layers[index].items()}


def _of_tokens(name: str, values: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Sums of what a metric gives. ValueError unless it gives a number of each token, [batch, seq_len] as `tokens`."""
    if values.shape != tokens.shape:
        raise ValueError(
            f"metric {name} gives distances of shape {list(values.shape)}; one of each token are {list(tokens.shape)}"
        )
    return values.double().sum(-1)
