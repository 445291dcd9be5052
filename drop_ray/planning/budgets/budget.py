"""A budget: the limits of a plan on one model, and the scores whose sum is to be small."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from drop_ray.planning.budgets.knapsack import cheapest
from drop_ray.planning.budgets.limits import Limit
from drop_ray.planning.budgets.swaps import Swap, swaps
from drop_ray.planning.modules import Module


@dataclass(frozen=True)
class Budget:
    """What a plan with limits has to keep."""

    scores: Mapping[Module, float]
    """The score of everything that may be dropped, in the plan's metric; low is redundant."""
    limits: tuple[Limit, ...]
    """The limits, all of which must hold."""
    rounds: int
    """Rounds of swaps at most; 0 for none."""

    def solve(self) -> tuple[Module, ...]:
        """The drop with the smallest sum of scores that keeps the limits, most redundant first."""
        return tuple(cheapest(self.scores, self.limits))

    def score(self, dropped: Collection[Module]) -> float:
        """The sum of the modules' scores."""
        return math.fsum(self.scores[module] for module in dropped)

    def swaps(self, dropped: Collection[Module], width: int) -> list[Swap]:
        """At most `width` swaps that keep the limits."""
        return swaps(dropped, self.scores, self.limits, width)
