"""Whether an architecture fits the way sub-layers are dropped and scored, found out on a small random model of it.

The listed families are tested. Any other has to pass this probe first, and `model.allow_unlisted` asks for it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.candidates import candidates, only
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.classes import base_config_class, dropped_model_class
from drop_ray.models.decoder import state_of
from drop_ray.models.dropped import base_skeleton, decoder_layers, read_config
from drop_ray.models.families import FAMILIES, DropLists, architecture_of
from drop_ray.models.layer_inputs import layer_inputs
from drop_ray.models.layer_states import replayed_states
from drop_ray.models.modeling_dropped import CONSTANT, counting_layer, with_drops
from drop_ray.models.shrinking import TOKENS
from drop_ray.models.sublayers import is_norm, sublayer_names
from drop_ray.models.tracing import Traits, run, seen, small_model
from drop_ray.models.transformers_private import layer_types
from drop_ray.models.whole import check_whole
from drop_ray.models.wrappers import WRAPPERS, check_exportable, wrapper_class


class MisfitError(Exception):
    """How an architecture does not fit; its text ends the sentence `... does not fit: `."""


def is_listed(checkpoint: Checkpoint) -> bool:
    """Whether the tests cover the checkpoint's architecture: of a wrapper, with the language model that it has."""
    architecture = architecture_of(checkpoint.config, checkpoint.location)
    if checkpoint.whole is None:
        return architecture in FAMILIES
    family = WRAPPERS.get(wrapper_class(checkpoint.whole.config))
    return family is not None and architecture in family.language_models


def check_architecture(checkpoint: Checkpoint, allow_unlisted: bool) -> None:
    """UserError unless the checkpoint's architecture is listed, or `allow_unlisted` is set and it passes the probe.

    Of a wrapper that is not listed, the language model is probed.
    """
    architecture = architecture_of(checkpoint.config, checkpoint.location)
    name, listed = architecture, [*FAMILIES]
    if checkpoint.whole is not None:
        name, listed = wrapper_class(checkpoint.whole.config), [*WRAPPERS]
        check_exportable(checkpoint.whole.config, checkpoint.location)
    if not is_listed(checkpoint) and not allow_unlisted:
        base_config_class(architecture)
        what = name if name not in listed else f"{name} around a {architecture}"
        raise UserError(
            f"model.path: {checkpoint.location} is a {what}, which is not among the tested architectures "
            f"({', '.join(listed)}); set model.allow_unlisted: true to have it probed and used"
        )
    if checkpoint.whole is not None:
        read_config(checkpoint)  # which names a field of the language model at fault
        check_whole(checkpoint, checkpoint.whole.config, checkpoint.whole.tensors)
    if is_listed(checkpoint):
        return
    config = read_config(checkpoint)
    base_skeleton(config)
    try:
        probe(config)
    except MisfitError as misfit:
        raise UserError(f"model.path: {checkpoint.location}: {architecture} does not fit: {misfit}") from misfit


def probe(config: Any) -> Traits:
    """Raise an error with the reason if models of this configuration's class cannot be dropped from and scored.

    These are the checks, on random weights. Every layer has a token mixer or an MLP. Without all of them, the state
    still passes through. Called one after the other with what the model gives them, the layers give the model's own
    state. A dropped model gives the logits of the base with the contributions zeroed. The KV cache holds kept layers
    only, and changes no token. Returns what was seen of the architecture.
    """
    with _said_as("a small model of it cannot be built and run"):
        full = small_model(config, config.architectures[0])
        run(full)
    with _said_as("what its modules return cannot be told"):
        traits = seen(full)
    allowed = _check_structure(full)
    _check_states(full)
    for drops in _patterns(full, allowed):
        with _said_as("a dropped model of it cannot be built and run"):
            dropped_class = dropped_model_class(config.architectures[0])
            dropped = dropped_class(with_drops(full.config, drops.attn, drops.mlp, traits.returned_values)).eval()
            missing = dropped.load_state_dict(full.state_dict(), strict=False).missing_keys
            found = run(dropped)
        with _silenced(full, drops):
            expected = run(full)
        if missing or not torch.equal(found, expected):
            raise MisfitError(f"without {drops} its logits are not those without the contributions")
        if drops == allowed and torch.equal(expected[0], expected[1]):
            raise MisfitError("without its sub-layers no state passes through its layers: they add it inside of them")
        _check_cache(dropped, drops)
    return traits


def _patterns(model: PreTrainedModel, allowed: DropLists) -> list[DropLists]:
    """What is dropped in turn: first sub-layers, some of the middle, the last mixer, all attention, all mixers, all.

    Without all attention, linear mixers are left, which do not count tokens.
    """
    types, count = layer_types(model.config), len(decoder_layers(model))
    some = [
        DropLists((0,), ()),
        DropLists((), (0,)),
        DropLists((1,), (1, count - 1)),
        DropLists((count - 1,), ()),
        DropLists(tuple(layer for layer, kind in enumerate(types) if kind not in CONSTANT), ()),
        DropLists(tuple(range(count)), ()),
        DropLists(tuple(range(count)), tuple(range(count))),
    ]
    found = dict.fromkeys(only(drops, allowed) for drops in some)
    return [drops for drops in found if drops.count]


def _check_structure(model: PreTrainedModel) -> DropLists:
    """The sub-layers that can be dropped."""
    with _said_as("its decoder layers are not found"):
        layers = decoder_layers(model)
    for index, layer in enumerate(layers):
        if not any(sublayer_names(layer).values()):
            has = ", ".join(dict(layer.named_children()))
            raise MisfitError(f"layer {index} has neither a token mixer nor an MLP of a known name; it has {has}")
    allowed = candidates(model)
    if not allowed.count:
        raise MisfitError("it has no sub-layer that other layers do not need")
    return allowed


def _check_states(model: PreTrainedModel) -> None:
    """Check that a sweep, which calls one layer after the other, gives the states of the model itself."""
    states: list[Any] = []
    hook = decoder_layers(model)[-1].register_forward_hook(lambda _, __, output: states.append(state_of(output)))
    with _said_as("its layers cannot be called one after the other"), torch.no_grad():
        run(model)
        hook.remove()
        inputs = layer_inputs(model, TOKENS)
        hidden = inputs.hidden
        for layer, arguments in zip(decoder_layers(model), inputs.keyword_arguments, strict=True):
            _, hidden = replayed_states(layer, hidden, arguments)
    if not isinstance(hidden, torch.Tensor) or hidden.dim() != 3:
        raise MisfitError("the state between its layers is more than one vector a token")
    if not torch.equal(hidden, states[0]):
        raise MisfitError("its layers need more of each other than the state")


def _check_cache(model: PreTrainedModel, drops: DropLists) -> None:
    settings = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    with _said_as("it cannot generate"), torch.no_grad():
        with_cache = model.generate(TOKENS, use_cache=True, **settings)
        without = model.generate(TOKENS, use_cache=False, **settings)
        output = model(TOKENS, use_cache=True)
        cache = getattr(output, "past_key_values", getattr(output, "cache_params", None))
    types = layer_types(model.config)
    kept = len({*range(len(types))} - {*drops.attn}) + (counting_layer(types, drops.attn) is not None)
    if not torch.equal(with_cache, without):
        raise MisfitError(f"without {drops} it generates other tokens with a KV cache than without one")
    if cache is None or not hasattr(cache, "layers"):
        raise MisfitError("it has no KV cache of layers")
    if len(cache.layers) != kept:
        raise MisfitError(f"without {drops} its KV cache has {len(cache.layers)} layers")


@contextmanager
def _silenced(model: PreTrainedModel, drops: DropLists) -> Iterator[None]:
    """Multiply the outputs of the dropped sub-layers by zero."""

    def silence(_: nn.Module, __: Any, output: Any) -> Any:
        return (output[0] * 0, *output[1:]) if isinstance(output, tuple) else output * 0

    layers = decoder_layers(model)
    with ExitStack() as stack:
        for kind, indices in (("attention", drops.attn), ("mlp", drops.mlp)):
            for layer in (layers[index] for index in indices):
                for name in (name for name in sublayer_names(layer)[kind] if not is_norm(name)):
                    stack.callback(getattr(layer, name).register_forward_hook(silence).remove)
        yield


@contextmanager
def _said_as(what: str) -> Iterator[None]:
    """Turn any error of an unknown architecture's code into the reason why it does not fit."""
    try:
        yield
    except Exception as error:
        raise MisfitError(
            f"{what} ({type(error).__name__}: {error}) in transformers {transformers.__version__}"
        ) from error
