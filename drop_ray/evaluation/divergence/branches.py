"""Several variants of one model go through its layers together: what they have in common is computed once.

A variant that lacks sub-layers is the base with stand-ins in their places, as in `models.modeling_dropped`. Two
variants have the same residual state up to the first layer of which they lack different parts.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from drop_ray.models.families import DropLists
from drop_ray.models.modeling_dropped import Nothing, sublayer_names


@dataclass(frozen=True)
class Branch:
    """A residual state of a micro-batch, and the variants that have it."""

    hidden: torch.Tensor
    """The state, [batch, seq_len, hidden_size]."""
    members: tuple[DropLists, ...]
    """What the variants lack."""


def advance(
    layer: nn.Module,
    index: int,
    branches: Sequence[Branch],
    keyword_arguments: Mapping[str, Any],
    device: torch.device | str,
    state_device: torch.device | str,
) -> list[Branch]:
    """The branches after a layer, which is the one of that index.

    keyword_arguments: of the layer's call; device: the layer's; state_device: where states wait for the next layer.
    """
    after = []
    for branch in branches:
        hidden = branch.hidden.to(device)
        groups: dict[tuple[bool, bool], list[DropLists]] = {}
        for drops in branch.members:
            groups.setdefault((index in drops.attn, index in drops.mlp), []).append(drops)
        for (no_attention, no_mlp), members in groups.items():
            with without(layer, no_attention, no_mlp):
                after.append(Branch(layer(hidden, **keyword_arguments).to(state_device), tuple(members)))
    return after


@contextmanager
def without(layer: nn.Module, attention: bool, mlp: bool) -> Iterator[None]:
    """The layer without its attention, its MLP or both, for a while."""
    names = sublayer_names(layer)
    absent = [*(names["attention"] if attention else ()), *(names["mlp"] if mlp else ())]
    kept = {name: getattr(layer, name) for name in absent}
    try:
        for name in absent:
            setattr(layer, name, nn.Identity() if "norm" in name else Nothing(name == "self_attn"))  # type: ignore[no-untyped-call]
        yield
    finally:
        for name, module in kept.items():
            setattr(layer, name, module)
