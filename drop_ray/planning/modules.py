"""What a plan is made of: attention layers, MLPs and blocks, and which of them a model still has."""

from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.models.families import DropLists

ATTENTION, MLP, BLOCK = "attention", "mlp", "block"
# What a strategy may choose from; a block is chosen as a whole.
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
    """Which layer's."""


def candidates(of: str, num_layers: int, dropped: DropLists) -> list[Module]:
    """What can still be dropped; a block counts as long as any of it is there."""
    gone = {
        ATTENTION: set(dropped.attn),
        MLP: set(dropped.mlp),
        BLOCK: set(dropped.attn) & set(dropped.mlp),
    }
    return [Module(kind, layer) for kind in MODULES[of] for layer in range(num_layers) if layer not in gone[kind]]


def layers_of(sublayer: str, chosen: Sequence[Module], already: Sequence[int]) -> tuple[int, ...]:
    """The layers that lose their attention (or their MLP) by what was chosen, in its order; a block loses both."""
    return tuple(module.layer for module in chosen if module.kind in (sublayer, BLOCK) and module.layer not in already)
