"""One sub-layer of a decoder layer at a time, its output projection, and what goes into that, without family code."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from drop_ray.models.layer_states import without
from drop_ray.models.sublayers import sublayer_names
from drop_ray.refit.order import Kind

# The linear whose output a sub-layer adds to the residual stream, by the module that has it.
PROJECTIONS = {"self_attn": "o_proj", "mlp": "down_proj"}


@contextmanager
def alone(layer: nn.Module, kind: Kind) -> Iterator[nn.Module]:
    """The layer with nothing but that sub-layer in it, so that its call adds this one's update to the state."""
    with without(layer, attention=kind == "mlp", mlp=kind == "attention"):
        yield layer


def projection_of(layer: nn.Module, kind: Kind) -> tuple[str, nn.Linear] | None:
    """Name within the layer, and the output projection; None for a mixture of experts, which has many."""
    for name in sublayer_names(layer)[kind]:
        inner = PROJECTIONS.get(name)
        projection = getattr(getattr(layer, name), inner, None) if inner else None
        if isinstance(projection, nn.Linear):
            return f"{name}.{inner}", projection
    return None


def projections_of(layer: nn.Module) -> list[nn.Linear]:
    """The output projections of a layer."""
    kinds: tuple[Kind, ...] = ("attention", "mlp")
    return [found[1] for kind in kinds if (found := projection_of(layer, kind))]


def has_output_norm(layer: nn.Module) -> bool:
    """Whether what a sub-layer adds is normalised after its projection (OLMo 2 and 3, Gemma 2 and 3)."""
    return hasattr(layer, "post_feedforward_layernorm")


@contextmanager
def recorded(projection: nn.Linear) -> Iterator[list[torch.Tensor]]:
    """A list to which every call appends the projection's input."""
    seen: list[torch.Tensor] = []
    hook = projection.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        yield seen
    finally:
        hook.remove()
