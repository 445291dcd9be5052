"""`inner`: the least important attention layers, but neither the first nor the last one."""

from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.modules import Module
from drop_ray.planning.strategies.strategy import Choice, Strategy


class Inner(Strategy):
    def candidates(self, of: str, layers: Layers, dropped: DropLists) -> list[Module]:
        everything = super().candidates(of, layers, dropped)
        return [module for module in everything if 0 < module.layer < layers.count - 1]

    def choose(self, choice: Choice) -> list[Module]:
        ranked = sorted(choice.candidates, key=lambda module: choice.scores.mean(module.kind, module.layer))
        return ranked[: choice.count]


INNER = Inner(of="attention", iterative=True)
