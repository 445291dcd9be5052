"""`inner`: the least important attention layers, but neither the first nor the last one."""

from drop_ray.models.families import DropLists
from drop_ray.planning.modules import Module
from drop_ray.planning.strategies.strategy import Choice, Strategy


class Inner(Strategy):
    def candidates(self, of: str, num_layers: int, dropped: DropLists) -> list[Module]:
        everything = super().candidates(of, num_layers, dropped)
        return [module for module in everything if 0 < module.layer < num_layers - 1]

    def choose(self, choice: Choice) -> list[Module]:
        ranked = sorted(choice.candidates, key=lambda module: choice.scores.mean(module.kind, module.layer))
        return ranked[: choice.count]


INNER = Inner(of="attention", iterative=True)
