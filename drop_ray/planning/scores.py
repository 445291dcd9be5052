"""Aggregates the score rows of all samples to the mean importance of every module, with its standard error."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from drop_ray.scoring.rows import ScoreRow


@dataclass(frozen=True)
class Importance:
    """How much a module changes the residual stream; low is redundant."""

    mean: float
    """Mean distance over all tokens between the states before and after the module."""
    stderr: float
    """Standard error of the mean over samples, of which there are at least two."""


@dataclass(frozen=True)
class ScoreTable:
    """The importance of every module of one model in one metric."""

    importance: Mapping[tuple[str, int, int], Importance]
    """Importance by (module, layer, gap). A gap above 1 is a window of blocks, from `layer` to `layer + gap - 1`."""

    def layers(self, module: str) -> list[int]:
        """Layers that still have this module, in order."""
        return sorted(layer for name, layer, gap in self.importance if name == module and gap == 1)

    def mean(self, module: str, layer: int, gap: int = 1) -> float:
        return self.importance[module, layer, gap].mean

    def means(self, module: str) -> dict[int, float]:
        """Mean importance by layer, for the layers that still have this module."""
        return {layer: self.mean(module, layer) for layer in self.layers(module)}

    def windows(self, gap: int) -> list[int]:
        """First layers of the windows of `gap` blocks, in order."""
        return sorted(layer for name, layer, size in self.importance if name == "block" and size == gap)


# The tables of one state of a model, by metric.
ScoreTables = Mapping[str, ScoreTable]


def aggregate(rows: Iterable[ScoreRow]) -> ScoreTables:
    """One table for each metric of the rows. Sums are in sample order, whatever the order of delivery."""
    by_metric: dict[str, dict[tuple[str, int, int], list[ScoreRow]]] = {}
    for row in sorted(rows, key=lambda row: row.sample):
        modules = by_metric.setdefault(row.metric, {})
        modules.setdefault((row.module, row.layer, row.gap), []).append(row)
    return {
        metric: ScoreTable({key: _importance(samples) for key, samples in modules.items()})
        for metric, modules in by_metric.items()
    }


def _importance(rows: list[ScoreRow]) -> Importance:
    mean = math.fsum(row.total for row in rows) / sum(row.tokens for row in rows)
    means = [row.total / row.tokens for row in rows]
    center = math.fsum(means) / len(means)
    variance = math.fsum((value - center) ** 2 for value in means) / (len(means) - 1)
    return Importance(mean, math.sqrt(variance / len(means)))
