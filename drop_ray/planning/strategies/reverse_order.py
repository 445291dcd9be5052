"""`reverse`: a baseline that drops from the last layer up."""

from drop_ray.planning.modules import Module
from drop_ray.planning.strategies.strategy import Choice, Strategy


class ReverseOrder(Strategy):
    def choose(self, choice: Choice) -> list[Module]:
        """The deepest layers first; within a layer the MLP before the attention."""
        order = sorted(choice.candidates, key=lambda module: (module.layer, module.kind), reverse=True)
        return order[: choice.count]


REVERSE = ReverseOrder(of=None, uses_scores=False)
