"""The decoder layers of any model of transformers, wherever they stand: their calls, and others in place of them."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.sublayers import layers_and_path


def layers_path(model: PreTrainedModel) -> str:
    """The name that the model has for the list of its layers, such as `model.layers`."""
    return layers_and_path(model)[0]


def parts_around_layers(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Embeddings, norms and whatever else the model has beside its layers and its output layer, with their names."""
    path, head = layers_path(model), model.get_output_embeddings()
    parts: list[tuple[str, nn.Module]] = []

    def collect(prefix: str, module: nn.Module) -> None:
        for name, child in module.named_children():
            full = f"{prefix}{name}"
            if f"{path}.".startswith(f"{full}."):
                if full != path:
                    collect(f"{full}.", child)
            elif child is not head:
                parts.append((full, child))

    collect("", model)
    return parts


@contextmanager
def layers_replaced(model: PreTrainedModel, others: Sequence[nn.Module]) -> Iterator[None]:
    """The model with other modules in the places of its layers, for a while."""
    path, layers = layers_and_path(model)
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    setattr(owner, name, nn.ModuleList(others))
    try:
        yield
    finally:
        setattr(owner, name, layers)


class InPlaceOfLayer(nn.Module):
    """Stands in for a decoder layer: it returns a state in the form in which the layer would, with its attributes."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        object.__setattr__(self, "_layer", layer)  # no module of this one: its parameters may be without values

    def __getattr__(self, name: str) -> Any:
        if name in ("_layer", "_modules", "_parameters", "_buffers"):
            raise AttributeError(name)
        return getattr(self._layer, name)

    def returned(self, state: torch.Tensor) -> Any:
        count: int = getattr(self._layer, "returned_values", 0)
        return (state, *[None] * (count - 1)) if count else state


class Given(InPlaceOfLayer):
    """Returns a state that was computed before."""

    def __init__(self, layer: nn.Module, state: torch.Tensor):
        super().__init__(layer)
        self._state = state

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.returned(self._state)


def split_arguments(
    layer: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[torch.Tensor, dict[str, Any]]:
    """The state that a layer is called with, and all its other arguments by their names."""
    signature = inspect.signature(layer.forward)
    named = dict(signature.bind(*args, **kwargs).arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(parameter.name, {})
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and named.pop(parameter.name, ()):
            raise TypeError(f"{type(layer).__name__} is called with arguments that have no name")
    first = next(iter(signature.parameters))
    return named.pop(first), named


def state_of(output: Any) -> torch.Tensor:
    """The residual state in what a layer returns."""
    state: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return state
