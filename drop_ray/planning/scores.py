"""Aggregates the score rows of all samples to the mean importance of every module, with its standard error."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


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


def aggregate(rows: "pa.Table") -> ScoreTables:
    """One table for each metric of the rows, which have the fields of `scoring.rows.ScoreRow`.

    Sums are rounded once, so that the order of delivery does not show.
    """
    columns = {name: rows[name].to_numpy() for name in ("sample", "layer", "gap", "total", "tokens")}
    names = {name: rows[name].combine_chunks().dictionary_encode() for name in ("module", "metric")}
    codes = [names[name].indices.to_numpy(zero_copy_only=False) for name in ("metric", "module")]
    # The rows of one module lie beside each other, those of its samples in order.
    order = np.lexsort((columns["sample"], columns["gap"], columns["layer"], *reversed(codes)))
    keys = np.stack([codes[0], codes[1], columns["layer"], columns["gap"]])[:, order]
    changes = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
    totals, tokens = columns["total"][order], columns["tokens"][order]
    metrics, modules = (names[name].dictionary.to_pylist() for name in ("metric", "module"))
    tables: dict[str, dict[tuple[str, int, int], Importance]] = {}
    for start, stop in pairwise(sorted({0, *changes.tolist(), len(order)})):
        metric, module, layer, gap = keys[:, start].tolist()
        importance = _importance(totals[start:stop].tolist(), tokens[start:stop].tolist())
        tables.setdefault(metrics[metric], {})[modules[module], layer, gap] = importance
    return {metric: ScoreTable(importance) for metric, importance in tables.items()}


def _importance(totals: list[float], tokens: list[int]) -> Importance:
    mean = math.fsum(totals) / sum(tokens)
    means = [total / count for total, count in zip(totals, tokens, strict=True)]
    center = math.fsum(means) / len(means)
    variance = math.fsum((value - center) ** 2 for value in means) / (len(means) - 1)
    return Importance(mean, math.sqrt(variance / len(means)))
