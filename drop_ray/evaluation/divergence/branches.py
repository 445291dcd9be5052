"""Several variants of one model go through its layers together: what they have in common is computed once.

A variant that lacks sub-layers is the base with stand-ins in their places, as in `models.modeling_dropped`. Two
variants have the same residual state up to the first sub-layer that one of them lacks and the other has.
"""

import copy
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from drop_ray.models.decoder import state_of
from drop_ray.models.families import DropLists
from drop_ray.models.layer_states import seen_states, without


@dataclass(frozen=True)
class Branch:
    """A residual state of a micro-batch, and the variants that have it."""

    hidden: torch.Tensor
    """The state, [batch, seq_len, hidden_size]."""
    members: tuple[DropLists, ...]
    """What the variants lack."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """Arguments in which layers leave something for later ones, such as keys and values (Gemma 4)."""


def advance(
    layer: nn.Module,
    index: int,
    branches: list[Branch],
    keyword_arguments: Mapping[str, Any],
    device: torch.device | str,
    state_device: torch.device | str,
    has_middle: bool,
) -> list[Branch]:
    """The branches after a layer, which is the one of that index.

    The list of those before is emptied on the way, so that at most one state more than there are branches is held.
    keyword_arguments: of the layer's call; device: the layer's; state_device: where states wait for the next layer;
    has_middle: whether a module of the layer receives the state after its mixer.
    """
    after = []
    while branches:
        branch = branches.pop(0)
        hidden = branch.hidden.to(device)
        groups: dict[bool, dict[bool, list[DropLists]]] = {}
        for drops in branch.members:
            groups.setdefault(index in drops.attn, {}).setdefault(index in drops.mlp, []).append(drops)
        for no_attention, members in groups.items():
            given = branch.memory or keyword_arguments
            memory = {name: copy.copy(value) for name, value in given.items() if isinstance(value, MutableMapping)}
            arguments = {**keyword_arguments, **memory}
            for no_mlp, state in _ends(layer, hidden, arguments, no_attention, set(members), has_middle).items():
                after.append(Branch(state.to(state_device), tuple(members[no_mlp]), memory))
    return after


def _ends(
    layer: nn.Module,
    hidden: torch.Tensor,
    keyword_arguments: Mapping[str, Any],
    no_attention: bool,
    wanted: set[bool],
    has_middle: bool,
) -> dict[bool, torch.Tensor]:
    """The states after the layer by whether it lacks its MLP, of those `wanted`.

    The attention is computed once where the layer has a state between it and the MLP (`has_middle`).
    """
    if has_middle and not no_attention and wanted != {True}:
        middle, end = seen_states(layer, hidden, keyword_arguments)
        return {kind: {True: middle, False: end}[kind] for kind in wanted}
    adds_nothing = has_middle and no_attention  # if the MLP goes as well
    return {
        no_mlp: hidden if adds_nothing and no_mlp else _end(layer, hidden, keyword_arguments, no_attention, no_mlp)
        for no_mlp in wanted
    }


def _end(
    layer: nn.Module, hidden: torch.Tensor, keyword_arguments: Mapping[str, Any], no_attention: bool, no_mlp: bool
) -> torch.Tensor:
    """The state after the layer without these parts."""
    with without(layer, no_attention, no_mlp):
        return state_of(layer(hidden, **keyword_arguments))
