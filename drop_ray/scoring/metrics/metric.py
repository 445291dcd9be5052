"""What a metric is: a distance of two residual states, for each token, and what tells its versions apart."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from drop_ray.extensions import METRICS
from drop_ray.scoring.state import State


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """A subclass says how far apart two states are; low is redundant. Its name is the registry's."""

    bounds: tuple[float, float]
    """The least and the greatest distance there can be, `math.inf` for none."""
    source: str
    """Where the formula is from: authors and number of a paper, or a sentence."""
    algorithm: int = 1
    """Raised by hand when other distances come out for the same states: score tables of both never mix."""

    @abstractmethod
    def distances(self, before: State, after: State) -> torch.Tensor:
        """Of each token, [batch, seq_len] in float64 or float32, on the states' device.

        A token must not depend on others, nor on the batch: who scores a sample may not show in its score.
        """


def metric_versions(names: Iterable[str]) -> dict[str, object]:
    """What identifies metrics besides their names: package and algorithm; the first version of the project's own needs
    nothing, because its name says it all. UserError if one cannot be loaded."""
    versions = {name: {"package": METRICS.package(name), "algorithm": METRICS.load(name).algorithm} for name in names}
    return {name: version for name, version in versions.items() if version != {"package": None, "algorithm": 1}}
