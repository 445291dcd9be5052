"""The modules that a plan can drop (attention layers, MLPs and blocks), and which of them a model still has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers

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


def candidates(of: str, layers: Layers, dropped: DropLists) -> list[Module]:
    """Modules that can still be dropped. A block counts as long as one of its sub-layers is left, and all may go."""
    attn, mlp = {*dropped.attn, *layers.absent.attn}, {*dropped.mlp, *layers.absent.mlp}
    gone = {
        ATTENTION: attn | {*layers.needed},
        MLP: mlp,
        BLOCK: attn & mlp | {*layers.needed},
    }
    return [Module(kind, layer) for kind in MODULES[of] for layer in range(layers.count) if layer not in gone[kind]]


def present(modules: Sequence[Module], layers: Layers) -> list[Module]:
    """The modules by what the family has: a block of one sub-layer only is that sub-layer."""
    alone = dict.fromkeys(layers.absent.attn, MLP) | dict.fromkeys(layers.absent.mlp, ATTENTION)
    return [
        Module(alone.get(module.layer, BLOCK), module.layer) if module.kind == BLOCK else module for module in modules
    ]


def without(drops: DropLists, modules: Sequence[Module]) -> DropLists:
    """The drop lists once the modules are dropped, too."""
    return DropLists(*in_order(drops, modules))


def in_order(drops: DropLists, modules: Sequence[Module]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The layers without attention and those without MLP, for a plan: what is dropped now comes last, in its order."""
    return (
        (*drops.attn, *layers_of(ATTENTION, modules, drops.attn)),
        (*drops.mlp, *layers_of(MLP, modules, drops.mlp)),
    )


def drops_name(drops: DropLists) -> str:
    """A name for a model that lacks these, such as `attn.2.7-mlp.3`; `base` for one that lacks nothing."""
    lists = {"attn": drops.attn, "mlp": drops.mlp}
    return "-".join(".".join([kind, *map(str, layers)]) for kind, layers in lists.items() if layers) or "base"


def ranked(scores: Mapping[Module, float]) -> list[Module]:
    """Modules by score, lowest first; of equal ones the deeper layer, and attention before MLP."""
    return sorted(scores, key=lambda module: (scores[module], -module.layer, module.kind))


def layers_of(kind: str, chosen: Sequence[Module], already: Sequence[int]) -> tuple[int, ...]:
    """The layers that lose their attention (or MLP) by the choice, in its order. A block loses both."""
    return tuple(module.layer for module in chosen if module.kind in (kind, BLOCK) and module.layer not in already)
