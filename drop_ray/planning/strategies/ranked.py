"""`attention`, `mlp`, `joint` and `block`: the least important first. Joint ranks attention and MLP in one list."""

from drop_ray.planning.modules import Module
from drop_ray.planning.strategies.strategy import Choice, Strategy


class LeastImportant(Strategy):
    def choose(self, choice: Choice) -> list[Module]:
        """The modules of lowest importance, most redundant first."""
        scores = choice.scores
        ranked = sorted(
            choice.candidates,
            key=lambda module: (scores.mean(module.kind, module.layer), -module.layer, module.kind),
        )
        return ranked[: choice.count]


ATTENTION = LeastImportant(of="attention", iterative=True)
MLP = LeastImportant(of="mlp", iterative=True)
JOINT = LeastImportant(of="joint", iterative=True)
BLOCK = LeastImportant(of="block", iterative=True)
