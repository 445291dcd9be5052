"""What the modules of an architecture's layers return and receive, seen in a small random model of it.

Listed families state it, and the tests compare what they state with what is seen. Of any other architecture it is seen
once a process, before its first model is built.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from drop_ray.models.classes import base_model_class
from drop_ray.models.decoder import split_arguments
from drop_ray.models.families import FAMILIES
from drop_ray.models.layer_states import replayed_states, seen_states
from drop_ray.models.modeling_dropped import returned_values
from drop_ray.models.shrinking import TOKENS, small_config
from drop_ray.models.sublayers import find_layers, is_norm, sublayer_names


@dataclass(frozen=True)
class Traits:
    """What sets the layers of an architecture apart, beyond the names of their modules."""

    returned_values: Mapping[str, int]
    """By class, how many values modules return to their layer, and layers to the model, where not as most do."""
    has_middle: bool
    """Whether the MLP, or the norm before it, receives the residual state after the mixer."""


# Parameters of a model that is still run to learn about it.
LARGEST = 1 << 27
_SEEN: dict[str, Traits] = {}


def traits_of_model(model: PreTrainedModel) -> Traits:
    """Of a base or dropped model, whose modules are told by it what they return."""
    known: Traits | None = getattr(model, "traits", None)
    if known is None:
        known = traits_of(model.config, type(model).__name__.removeprefix("Dropped"))
        set_traits(model, known)
    return known


def set_traits(model: PreTrainedModel, traits: Traits) -> None:
    """Leave with a model what is known of it. A module that took the place of another one knows what to return."""
    for name, module in _parts(model):
        if not hasattr(module, "returned_values"):
            module.returned_values = returned_values(name, module, traits.returned_values)  # type: ignore[assignment]
    model.traits = traits


def traits_of(config: Any, architecture: str) -> Traits:
    """Of a family's own configuration. What a model's code raises for it is raised."""
    family = FAMILIES.get(architecture)
    if family:
        return Traits(family.returned_values, family.has_middle)
    key = json.dumps({"architecture": architecture, **config.to_dict()}, sort_keys=True, default=str)
    if key not in _SEEN:
        _SEEN[key] = seen(small_model(config, architecture))
    return _SEEN[key]


def small_model(config: Any, architecture: str) -> PreTrainedModel:
    """A small random model, in which every sub-layer matters."""
    build = base_model_class(architecture)
    small = small_config(config, build)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build(small).parameters())
    if count > LARGEST:
        raise ValueError(f"its smallest model has {count} parameters")
    torch.manual_seed(0)
    model: PreTrainedModel = build(small).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def seen(model: PreTrainedModel) -> Traits:
    """What is seen in a base model when it is run."""
    found: dict[str, int] = {}
    with ExitStack() as stack:
        for name, module in _parts(model):
            stack.callback(module.register_forward_hook(partial(_note, found, name)).remove)
        calls = stack.enter_context(recorded_calls(model))
        run(model)
    set_traits(model, Traits(found, has_middle=False))
    with torch.no_grad():
        traits = Traits(found, all(_has_middle(*call) for call in calls))
    set_traits(model, traits)
    return traits


def _note(found: dict[str, int], name: str, module: nn.Module, _: Any, output: Any) -> None:
    """Keep how many values a module returned, if it is another number than most return."""
    count = len(output) if isinstance(output, tuple) else 0
    known = returned_values(name, module, found)
    if count != known:
        if type(module).__name__ in found:
            raise ValueError(f"{type(module).__name__} returns {known} values at one time and {count} at another")
        found[type(module).__name__] = count


def _has_middle(layer: nn.Module, hidden: torch.Tensor, arguments: dict[str, Any]) -> bool:
    if not all(sublayer_names(layer).values()):
        return False
    try:
        seen_middle, _ = seen_states(layer, hidden, arguments)
    except Exception:  # it is not called with the state first, or not at all
        return False
    middle, _ = replayed_states(layer, hidden, arguments)
    return torch.equal(seen_middle, middle)


def run(model: PreTrainedModel) -> torch.Tensor:
    """Logits of a few tokens, [2, 12, vocabulary]."""
    with torch.no_grad():
        logits: torch.Tensor = model(TOKENS, use_cache=False).logits
    return logits


@contextmanager
def recorded_calls(model: PreTrainedModel) -> Iterator[list[tuple[nn.Module, torch.Tensor, dict[str, Any]]]]:
    """Each layer, the state that it is called with, and its other arguments, once the model is run."""
    calls: list[tuple[nn.Module, torch.Tensor, dict[str, Any]]] = []

    def keep(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((layer, *split_arguments(layer, args, kwargs)))

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in find_layers(model)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _parts(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """The layers, and the modules of their sub-layers that are no norms, each with its name in the layer."""
    for layer in find_layers(model):
        yield "", layer
        for names in sublayer_names(layer).values():
            yield from ((name, getattr(layer, name)) for name in names if not is_norm(name))
