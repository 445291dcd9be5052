"""`random`: a baseline that follows no scores."""

import random

from drop_ray.planning.modules import Module
from drop_ray.planning.strategies.strategy import Choice, Strategy


class RandomOrder(Strategy):
    def choose(self, choice: Choice) -> list[Module]:
        """The first of one seeded order, so that a larger drop contains every smaller one."""
        order = list(choice.candidates)
        random.Random(choice.seed).shuffle(order)
        return order[: choice.count]


RANDOM = RandomOrder(of=None, uses_scores=False, seeded=True)
