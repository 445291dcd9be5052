"""The base classes of metrics. What a metric sees decides when it can be computed, and so there is a class for each.

StateMetric      two residual states of a token       the ordinary sweep, block windows too
WeightMetric     the weights of a layer               the ordinary sweep, when the layer is there
AttentionMetric  the attention's probabilities        the ordinary sweep, with eager attention
OutputMetric     predictions without a module         leave-one-out: half a forward pass for each sub-layer
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from drop_ray.extensions import METRICS
from drop_ray.scoring.state import State

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from drop_ray.planning.losses import Loss

SWEPT = ("attention", "mlp", "block")


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """What all metrics have; low is redundant. A metric's name is that in the registry."""

    bounds: tuple[float, float]
    """Least and greatest possible score of a token; `math.inf` if there is no greatest."""
    source: str
    """Source of the formula: authors and number of a paper, or a sentence."""
    algorithm: int = 1
    """Version, raised by hand when the same inputs give other scores, so that score tables of both never mix."""
    modules: tuple[str, ...] = SWEPT
    """What it scores: `attention`, `mlp` and `block`. One that scores blocks scores block windows, too."""

    def fault(self, model: "PreTrainedModel") -> str | None:  # noqa: ARG002
        """Why it cannot score a model, with the remedy; None where it can. The model may have no weights."""
        return None


class StateMetric(Metric):
    """A subclass says how far apart two residual states are, which an attention, an MLP or blocks lie between."""

    @abstractmethod
    def distances(self, before: State, after: State) -> torch.Tensor:
        """The distance of each token, [batch, seq_len] in float64 or float32, on the states' device.

        It must not depend on other tokens or on the batch, so that a score does not depend on the worker.
        """


@dataclass(frozen=True, kw_only=True)
class WeightMetric(Metric):
    """A subclass scores a module by its weights. All samples have the same score, without an error."""

    modules: tuple[str, ...] = SWEPT[:2]
    """What it scores, which has weights of its own: `attention` and `mlp`."""

    @abstractmethod
    def score(self, layer: nn.Module, module: str) -> float:
        """The score of an attention or MLP (`modules`) of a decoder layer, which has it."""


@dataclass(frozen=True, kw_only=True)
class AttentionMetric(Metric):
    """A subclass scores an attention by where each token attends to."""

    modules: tuple[str, ...] = SWEPT[:1]
    """What it scores: `attention`."""

    @abstractmethod
    def scores(self, probabilities: torch.Tensor) -> torch.Tensor:
        """The score of each token, [batch, seq_len] in float64 or float32, from [batch, heads, seq_len, keys]."""

    def fault(self, model: "PreTrainedModel") -> str | None:
        from drop_ray.models.transformers_private import attention_of  # metrics are loaded without transformers

        if attention_of(model.config) == "eager":
            return None
        return (
            "reads the attention's probabilities, which only eager attention has; set model.attn_implementation: "
            "eager, or leave the metric out"
        )


class OutputMetric(Metric):
    """A subclass scores a module by the predictions of the model without it, beside those of the base."""

    @abstractmethod
    def total(self, loss: "Loss") -> float:
        """The sum over the predicted tokens of one sample."""


def metrics_of(names: Iterable[str], kind: type) -> dict[str, Any]:
    """Those of the named metrics that are of one of the classes above. UserError if a metric cannot be loaded."""
    found = {name: METRICS.load(name) for name in names}
    return {name: metric for name, metric in found.items() if isinstance(metric, kind)}


def swept(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the named metrics that the ordinary sweep computes: all but metrics of the output."""
    found = tuple(names)
    return tuple(name for name in found if name not in metrics_of(found, OutputMetric))


def metric_versions(names: Iterable[str]) -> Mapping[str, object]:
    """The part of an identity that metrics add to their names: package and algorithm.

    The project's own metrics in their first version add nothing. UserError if a metric cannot be loaded.
    """
    versions = {name: {"package": METRICS.package(name), "algorithm": METRICS.load(name).algorithm} for name in names}
    return {name: version for name, version in versions.items() if version != {"package": None, "algorithm": 1}}
