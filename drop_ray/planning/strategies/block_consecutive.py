"""`block_consecutive`: adjacent blocks, as Gromov et al. drop them, arXiv 2403.17887."""

from drop_ray.planning.modules import BLOCK, Module
from drop_ray.planning.strategies.strategy import Choice, Strategy


class ConsecutiveBlocks(Strategy):
    def gaps(self, count: int) -> tuple[int, ...]:
        return (count,)

    def choose(self, choice: Choice) -> list[Module]:
        """The window of `count` blocks whose input and output states are most similar (gap = count)."""
        scores, count = choice.scores, choice.count
        first = min(scores.windows(count), key=lambda layer: (scores.mean(BLOCK, layer, count), -layer))
        return [Module(BLOCK, layer) for layer in range(first, first + count)]


BLOCK_CONSECUTIVE = ConsecutiveBlocks(of="block")
