"""The base class of metrics: a distance between two residual states for each token, with a version."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from drop_ray.extensions import METRICS
from drop_ray.scoring.state import State


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """A subclass says how far apart two states are; low is redundant. Its name is that in the registry."""

    bounds: tuple[float, float]
    """Least and greatest possible distance; `math.inf` if there is no greatest."""
    source: str
    """Source of the formula: authors and number of a paper, or a sentence."""
    algorithm: int = 1
    """Version, raised by hand when the same states give other distances, so that score tables of both never mix."""

    @abstractmethod
    def distances(self, before: State, after: State) -> torch.Tensor:
        """The distance of each token, [batch, seq_len] in float64 or float32, on the states' device.

        It must not depend on other tokens or on the batch, so that a score does not depend on the worker.
        """


def metric_versions(names: Iterable[str]) -> dict[str, object]:
    """The part of an identity that metrics add to their names: package and algorithm.

    The project's own metrics in their first version add nothing. UserError if a metric cannot be loaded.
    """
    versions = {name: {"package": METRICS.package(name), "algorithm": METRICS.load(name).algorithm} for name in names}
    return {name: version for name, version in versions.items() if version != {"package": None, "algorithm": 1}}
