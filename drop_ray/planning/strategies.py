"""Which sub-layers to drop next: every strategy as an order over what is still there.

Definitions: He et al., "What Matters in Transformers?", arXiv 2406.15786. Where two modules are equally redundant, the
deeper one is dropped first (the published drop orders start at the deep layers), and attention before MLP in a layer.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.models.families import DropLists
from drop_ray.planning.scores import ScoreTable

ATTENTION, MLP, BLOCK = "attention", "mlp", "block"
# What a strategy may choose from; a block is chosen as a whole.
MODULES = {
    "attention": (ATTENTION,),
    "mlp": (MLP,),
    "joint": (ATTENTION, MLP),
    "block": (BLOCK,),
}


@dataclass(frozen=True)
class Module:
    """An attention, an MLP or a block: `kind` of layer `layer`."""

    kind: str
    layer: int


def candidates(of: str, num_layers: int, dropped: DropLists) -> list[Module]:
    """What can still be dropped; a block counts as long as any of it is there."""
    gone = {
        ATTENTION: set(dropped.attn),
        MLP: set(dropped.mlp),
        BLOCK: set(dropped.attn) & set(dropped.mlp),
    }
    return [Module(kind, layer) for kind in MODULES[of] for layer in range(num_layers) if layer not in gone[kind]]


def next_drops(scores: ScoreTable, of: str, num_layers: int, dropped: DropLists, count: int) -> list[Module]:
    """The `count` least important modules of the model without `dropped`, most redundant first.

    scores: of that same model. Joint dropping ranks attention and MLP in one list.
    """
    ranked = sorted(
        candidates(of, num_layers, dropped),
        key=lambda module: (scores.mean(module.kind, module.layer), -module.layer, module.kind),
    )
    return ranked[:count]


def consecutive_blocks(scores: ScoreTable, count: int) -> list[Module]:
    """The window of `count` adjacent blocks whose input and output states are most similar (gap = count)."""
    first = min(scores.windows(count), key=lambda layer: (scores.mean(BLOCK, layer, count), -layer))
    return [Module(BLOCK, layer) for layer in range(first, first + count)]


def random_order(of: str, num_layers: int, dropped: DropLists, seed: int) -> list[Module]:
    """A baseline: one seeded order, so that a larger drop contains every smaller one."""
    order = candidates(of, num_layers, dropped)
    random.Random(seed).shuffle(order)
    return order


def reverse_order(of: str, num_layers: int, dropped: DropLists) -> list[Module]:
    """A baseline: deepest layers first, in a layer the MLP before the attention."""
    return sorted(candidates(of, num_layers, dropped), key=lambda module: (module.layer, module.kind), reverse=True)


def layers_of(sublayer: str, chosen: Sequence[Module], already: Sequence[int]) -> tuple[int, ...]:
    """The layers that lose their attention (or their MLP) by what was chosen, in its order; a block loses both."""
    return tuple(module.layer for module in chosen if module.kind in (sublayer, BLOCK) and module.layer not in already)
