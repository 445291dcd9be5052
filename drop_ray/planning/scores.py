"""The aggregator: score rows of all samples to the mean importance of every module, with its standard error."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from drop_ray.scoring.rows import ScoreRow


@dataclass(frozen=True)
class Importance:
    """Mean over all tokens of 1 - cos(X, Y), and its standard error over samples, of which there are two or more."""

    mean: float
    stderr: float


@dataclass(frozen=True)
class ScoreTable:
    """Importance by (module, layer, gap); gap 1 but for windows of blocks layer .. layer + gap - 1."""

    importance: Mapping[tuple[str, int, int], Importance]
    metric: str = "cosine"

    def layers(self, module: str) -> list[int]:
        """Layers that have this module, in order."""
        return sorted(layer for name, layer, gap in self.importance if name == module and gap == 1)

    def mean(self, module: str, layer: int, gap: int = 1) -> float:
        return self.importance[module, layer, gap].mean

    def windows(self, gap: int) -> list[int]:
        """First layers of the windows of `gap` blocks, in order."""
        return sorted(layer for name, layer, size in self.importance if name == "block" and size == gap)


def aggregate(rows: Iterable[ScoreRow], metric: str = "cosine") -> ScoreTable:
    """Sum in sample order, so that the order of delivery cannot show. Rows of other metrics are left out."""
    by_module: dict[tuple[str, int, int], list[ScoreRow]] = {}
    for row in sorted((row for row in rows if row.metric == metric), key=lambda row: row.sample):
        by_module.setdefault((row.module, row.layer, row.gap), []).append(row)
    return ScoreTable({key: _importance(samples) for key, samples in by_module.items()}, metric)


def _importance(rows: list[ScoreRow]) -> Importance:
    mean = math.fsum(row.total for row in rows) / sum(row.tokens for row in rows)
    means = [row.total / row.tokens for row in rows]
    center = math.fsum(means) / len(means)
    variance = math.fsum((value - center) ** 2 for value in means) / (len(means) - 1)
    return Importance(mean, math.sqrt(variance / len(means)))
