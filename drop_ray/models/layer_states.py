"""The residual states within a layer: between its token mixer and its MLP, and after it.

Most families have a module that receives the state after the mixer: the MLP or the norm before it. In any other layer
the state is found by a replay. The layer is called once as it is, and once with its mixer's output replayed and its MLP
silent, which costs its norms and sums once more. Both ways give the same bits where both are possible. Where mixer and
MLP lie side by side, the replayed state is that of the layer without its MLP.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from drop_ray.models.decoder import state_of
from drop_ray.models.modeling_dropped import stand_in
from drop_ray.models.sublayers import is_norm, sublayer_names

States = tuple[torch.Tensor, torch.Tensor]
"""The states after the mixer and after the layer, each [batch, seq_len, hidden_size]."""


def states_within(layer: nn.Module, hidden: torch.Tensor, arguments: Mapping[str, Any], has_middle: bool) -> States:
    """Take a state through a layer. has_middle: whether a module of it receives the state after the mixer."""
    return (seen_states if has_middle else replayed_states)(layer, hidden, arguments)


def seen_states(layer: nn.Module, hidden: torch.Tensor, arguments: Mapping[str, Any]) -> States:
    """The state after the mixer is what the first module of the MLP receives."""
    seen: list[torch.Tensor] = []
    entry = getattr(layer, sublayer_names(layer)["mlp"][0])
    hook = entry.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        after = state_of(layer(hidden, **arguments))
    finally:
        hook.remove()
    return seen[0], after


def replayed_states(layer: nn.Module, hidden: torch.Tensor, arguments: Mapping[str, Any]) -> States:
    """The state after the mixer is what the layer gives with the mixer's output replayed and a silent MLP."""
    names = sublayer_names(layer)
    mixers = [name for name in names["attention"] if not is_norm(name)]
    with _recorded(layer, mixers) as outputs:
        after = state_of(layer(hidden, **arguments))
    if not names["mlp"]:
        return after, after
    others: dict[str, nn.Module] = {name: _Replay(output) for name, output in outputs.items()}
    others |= {name: stand_in(layer, name) for name in names["mlp"]}
    with replaced_parts(layer, others):
        return state_of(layer(hidden, **arguments)), after


@contextmanager
def without(layer: nn.Module, attention: bool, mlp: bool) -> Iterator[None]:
    """The layer without its mixer, its MLP or both, for a while."""
    names = sublayer_names(layer)
    absent = [*(names["attention"] if attention else ()), *(names["mlp"] if mlp else ())]
    with replaced_parts(layer, {name: stand_in(layer, name) for name in absent}):
        yield


@contextmanager
def replaced_parts(layer: nn.Module, others: Mapping[str, nn.Module]) -> Iterator[None]:
    """The layer with other modules of these names, for a while."""
    kept = {name: getattr(layer, name) for name in others}
    try:
        for name, other in others.items():
            setattr(layer, name, other)
        yield
    finally:
        for name, module in kept.items():
            setattr(layer, name, module)


class _Replay(nn.Module):
    """Returns what a module returned before."""

    def __init__(self, output: Any):
        super().__init__()
        self._output = output

    def forward(self, *_: Any, **__: Any) -> Any:
        return self._output


@contextmanager
def _recorded(layer: nn.Module, names: list[str]) -> Iterator[dict[str, Any]]:
    """What these modules of the layer return, by name, once it is called."""
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda _, __, output: outputs.__setitem__(name, output)

    with ExitStack() as stack:
        for name in names:
            stack.callback(getattr(layer, name).register_forward_hook(keep(name)).remove)
        yield outputs
