"""The modules that a plan can drop (attention layers, MLPs and blocks), and which of them a model still has."""

from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.models.families import DropLists

ATTENTION, MLP, BLOCK = "attention", "mlp", "block"
# The kinds of module that a strategy chooses from, by its `of`; a block is chosen as a whole.
MODULES = {
    "attention": (ATTENTION,),
    "mlp": (MLP,),
    "joint": (ATTENTION, MLP),
    "block": (BLOCK,),
}
PLURALS = {"attention": "attention layers", "mlp": "MLPs", "joint": "attention layers and MLPs", "block": "blocks"}


@dataclass(frozen=True)
class Module:
    """An attention, an MLP or a block."""

    kind: str
    """`attention`, `mlp` or `block`."""
    layer: int
    """Index of its layer."""


def candidates(of: str, num_layers: int, dropped: DropLists) -> list[Module]:
    """Modules that can still be dropped. A block counts as long as one of its sub-layers is left."""
    gone = {
        ATTENTION: set(dropped.attn),
        MLP: set(dropped.mlp),
        BLOCK: set(dropped.attn) & set(dropped.mlp),
    }
    return [Module(kind, layer) for kind in MODULES[of] for layer in range(num_layers) if layer not in gone[kind]]


def layers_of(kind: str, chosen: Sequence[Module], already: Sequence[int]) -> tuple[int, ...]:
    """The layers that lose their attention (or MLP) by the choice, in its order. A block loses both."""
    return tuple(module.layer for module in chosen if module.kind in (kind, BLOCK) and module.layer not in already)
