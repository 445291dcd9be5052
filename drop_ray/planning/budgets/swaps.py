"""Neighbours of a drop that keep its limits: what to measure next where additive scores are only a first guess."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from drop_ray.planning.budgets.limits import Limit
from drop_ray.planning.modules import Module, ranked


@dataclass(frozen=True)
class Swap:
    """One module comes back, and one that was kept is dropped in its place; or none is, where the limits allow."""

    back: Module
    """The module that is kept again."""
    gone: Module | None
    """The module that is dropped instead."""

    def of(self, dropped: Collection[Module]) -> frozenset[Module]:
        """What is dropped after it."""
        return frozenset(dropped) - {self.back} | ({self.gone} if self.gone else set())


def swaps(
    dropped: Collection[Module], scores: Mapping[Module, float], limits: Sequence[Limit], width: int
) -> list[Swap]:
    """At most `width` swaps after which all limits hold, those with the smallest sum of scores first.

    scores: of everything that may be dropped. Of equal sums, the one comes first whose module comes back from further
    behind in the ranking.
    """
    place = {module: position for position, module in enumerate(ranked(scores))}

    def rank(swap: Swap) -> tuple[float, int, int]:
        added = math.fsum((scores[swap.gone] if swap.gone else 0.0, -scores[swap.back]))
        return added, -place[swap.back], place[swap.gone] if swap.gone else -1

    found: list[Swap] = []
    for swap in sorted(_all(dropped, scores), key=rank):
        if len(found) == width:
            break
        after = swap.of(dropped)
        if after and all(limit.holds(after) for limit in limits):
            found.append(swap)
    return found


def _all(dropped: Collection[Module], scores: Mapping[Module, float]) -> Iterator[Swap]:
    kept = [module for module in scores if module not in dropped]
    for back in dropped:
        for gone in (None, *kept):
            yield Swap(back, gone)
