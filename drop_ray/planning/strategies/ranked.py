"""`attention`, `mlp`, `joint` and `block`: the least important first. Joint ranks attention and MLP in one list."""

from drop_ray.planning.modules import Module, ranked
from drop_ray.planning.strategies.strategy import Choice, Strategy


class LeastImportant(Strategy):
    def choose(self, choice: Choice) -> list[Module]:
        """The modules of lowest importance, most redundant first."""
        scores = {module: choice.scores.mean(module.kind, module.layer) for module in choice.candidates}
        return ranked(scores)[: choice.count]


ATTENTION = LeastImportant(of="attention", iterative=True)
MLP = LeastImportant(of="mlp", iterative=True)
JOINT = LeastImportant(of="joint", iterative=True)
BLOCK = LeastImportant(of="block", iterative=True)
