"""Importance through training: which layers are redundant, since when, and whether their ranking persists.

A profile is the mean importance by layer of one module in one training checkpoint. Checkpoints are given by revision,
oldest first; the last is what the others are compared with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Profile = Mapping[int, float]
REDUNDANT_PART = 4
"""One layer in four counts as redundant here: enough layers to see a pattern, few enough to drop at little cost."""


@dataclass(frozen=True)
class CheckpointLine:
    """One training checkpoint."""

    revision: str
    """Its name."""
    means: Mapping[str, float]
    """Mean importance by module."""
    correlations: Mapping[str, float | None]
    """Rank correlation with the last checkpoint by module; none where one of the two has no ranking."""
    redundant: Mapping[str, tuple[int, ...]]
    """The most redundant quarter of the layers by module, the lowest first."""


def checkpoint_lines(checkpoints: Mapping[str, Mapping[str, Profile]]) -> list[CheckpointLine]:
    """checkpoints: profiles by revision and module, of one layer at least; all have the same modules and layers."""
    last = [*checkpoints.values()][-1]
    return [
        CheckpointLine(
            revision,
            {module: float(np.mean([*profile.values()])) for module, profile in profiles.items()},
            {module: rank_correlation(profile, last[module]) for module, profile in profiles.items()},
            {module: most_redundant(profile) for module, profile in profiles.items()},
        )
        for revision, profiles in checkpoints.items()
    ]


def most_redundant(profile: Profile) -> tuple[int, ...]:
    """The quarter of the layers with the lowest importance, one at least, the lowest first."""
    ranked = sorted(profile, key=lambda layer: (profile[layer], layer))
    return tuple(ranked[: max(1, len(ranked) // REDUNDANT_PART)])


def redundant_since(lines: Sequence[CheckpointLine], module: str) -> dict[str, tuple[int, ...]]:
    """Layers of the last checkpoint's most redundant quarter, by the revision from which on they always were in it."""
    since: dict[str, tuple[int, ...]] = {line.revision: () for line in lines}
    for layer in lines[-1].redundant[module]:
        others = [index for index, line in enumerate(lines) if layer not in line.redundant[module]]
        since[lines[others[-1] + 1 if others else 0].revision] += (layer,)
    return {revision: layers for revision, layers in since.items() if layers}


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation; equal values share the mean of their ranks. None where one side is all equal."""
    ranks = _ranks(first), _ranks(second)
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def rank_correlation(profile: Profile, last: Profile) -> float | None:
    """Of the layers that the last one has; both have them."""
    layers = sorted(last)
    return spearman([profile[layer] for layer in layers], [last[layer] for layer in layers])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return mean_ranks[place]
