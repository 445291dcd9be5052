"""Which sub-layers of a dropped model are refitted, and which state of the base each of them is to reach.

Sub-layers are counted through the model: 2 i is the attention of layer i, 2 i + 1 its MLP. Place p is the residual
state before sub-layer p, so that the last place is the state behind the last layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from drop_ray.models.families import DropLists

Kind = Literal["attention", "mlp"]


@dataclass(frozen=True)
class SubLayer:
    """A sub-layer that the dropped model has kept."""

    number: int
    """Its number, counted through the model."""
    target: int
    """The place behind the dropped sub-layers that follow it, whose state in the base it is to reach."""

    @property
    def layer(self) -> int:
        return self.number // 2

    @property
    def kind(self) -> Kind:
        return "mlp" if self.number % 2 else "attention"


def kept_sublayers(num_layers: int, drops: DropLists) -> Iterator[SubLayer]:
    """All sub-layers that are kept, in their order."""
    gone = _numbers(drops)
    for number in range(2 * num_layers):
        if number not in gone:
            target = number + 1
            while target in gone:
                target += 1
            yield SubLayer(number, target)


def refitted_sublayers(num_layers: int, drops: DropLists, lacking: DropLists) -> list[SubLayer]:
    """Those from the last one before what is dropped on; where nothing is before it, those that follow it.

    lacking: what the base lacks itself. Empty if nothing else is dropped, or nothing is left.
    """
    new = _numbers(drops) - _numbers(lacking)
    return [one for one in kept_sublayers(num_layers, drops) if new and one.target > min(new)]


def parting(kept: list[SubLayer], drops: DropLists, lacking: DropLists) -> int:
    """The last place at which base and refitted model have the same states. kept: those that are refitted."""
    return min([kept[0].number, *(_numbers(drops) - _numbers(lacking))])


def _numbers(drops: DropLists) -> set[int]:
    return {2 * layer for layer in drops.attn} | {2 * layer + 1 for layer in drops.mlp}
