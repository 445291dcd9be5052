"""`block_consecutive`: adjacent blocks, as Gromov et al. drop them, arXiv 2403.17887."""

from itertools import pairwise

from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.modules import BLOCK, Module
from drop_ray.planning.strategies.strategy import Choice, Strategy


class ConsecutiveBlocks(Strategy):
    def candidates(self, of: str, layers: Layers, dropped: DropLists) -> list[Module]:
        """The longest run of neighbours of which none has to stay: no window can have more blocks."""
        found = super().candidates(of, layers, dropped)
        if not layers.needed:
            return found
        bounds = pairwise((-1, *layers.needed, layers.count))
        runs = ([module for module in found if start < module.layer < end] for start, end in bounds)
        return max(runs, key=len)

    def gaps(self, count: int) -> tuple[int, ...]:
        return (count,)

    def choose(self, choice: Choice) -> list[Module]:
        """The window of `count` blocks whose input and output states are most similar (gap = count)."""
        scores, count = choice.scores, choice.count
        first = min(scores.windows(count), key=lambda layer: (scores.mean(BLOCK, layer, count), -layer))
        return [Module(BLOCK, layer) for layer in range(first, first + count)]


BLOCK_CONSECUTIVE = ConsecutiveBlocks(of="block")
