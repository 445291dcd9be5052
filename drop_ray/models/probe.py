"""Whether an architecture fits the way sub-layers are dropped and scored, found out on a small random model of it.

The listed families are tested. Any other has to pass this probe first, and `model.allow_unlisted` asks for it.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.classes import base_config_class, base_model_class, dropped_model_class
from drop_ray.models.dropped import decoder_layers, read_config
from drop_ray.models.families import FAMILIES, DropLists, architecture_of
from drop_ray.models.modeling_dropped import MLP_NAMES, sublayer_names, with_drops
from drop_ray.models.transformers_private import set_attention

NUM_LAYERS = 4
TOKENS = torch.arange(3, 27).reshape(2, 12)
# Widths of the small model. Fields that the configuration lacks are not added.
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PATTERNS = (
    DropLists((0,), ()),
    DropLists((), (0,)),
    DropLists((1,), (1, 3)),
    DropLists(tuple(range(NUM_LAYERS)), ()),
    DropLists(tuple(range(NUM_LAYERS)), tuple(range(NUM_LAYERS))),
)


class _MisfitError(Exception):
    """How an architecture does not fit; its text ends the sentence `... does not fit: `."""


def check_architecture(checkpoint: Checkpoint, allow_unlisted: bool) -> None:
    """UserError unless the checkpoint's architecture is listed, or `allow_unlisted` is set and it passes the probe."""
    architecture = architecture_of(checkpoint.config, checkpoint.location)
    if architecture in FAMILIES:
        return
    if not allow_unlisted:
        base_config_class(architecture)
        raise UserError(
            f"model.path: {checkpoint.location} is a {architecture}, which is not among the tested architectures "
            f"({', '.join(FAMILIES)}); set model.allow_unlisted: true to have it probed and used"
        )
    try:
        probe(read_config(checkpoint))
    except _MisfitError as misfit:
        raise UserError(f"model.path: {checkpoint.location}: {architecture} does not fit: {misfit}") from misfit


def probe(config: Any) -> None:
    """Raise an error with the reason if models of this configuration's class cannot be dropped from and scored.

    There are four checks, on random weights. A dropped model gives the logits of the base with the contributions
    zeroed. The state that enters the MLP is the one after attention. The KV cache holds kept layers only. The KV cache
    changes no token.
    """
    config = _small(config)
    torch.manual_seed(0)
    with _said_as("a small model of it cannot be built and run"):
        full = base_model_class(config.architectures[0])(config).eval()
        for parameter in full.parameters():
            nn.init.normal_(parameter, std=0.3)
        _logits(full)
    _check_structure(full)
    _check_middle(full)
    for drops in PATTERNS:
        with _said_as("a dropped model of it cannot be built and run"):
            dropped_class = dropped_model_class(config.architectures[0])
            dropped = dropped_class(with_drops(config, drops.attn, drops.mlp)).eval()
            dropped.load_state_dict(full.state_dict(), strict=False)
            found = _logits(dropped)
        with _silenced(full, drops):
            if not torch.equal(found, _logits(full)):
                raise _MisfitError(f"without {drops} its logits are not those without the contributions")
        _check_cache(dropped, drops)


def _small(config: Any) -> Any:
    """The configuration with few, narrow layers. All other settings stay."""
    config = copy.deepcopy(config)
    num_layers = config.num_hidden_layers
    fields = config.to_dict()
    small = {key: value for key, value in SMALL.items() if fields.get(key) is not None}
    heads, kv_heads = fields.get("num_attention_heads"), fields.get("num_key_value_heads")
    small |= {"num_hidden_layers": NUM_LAYERS, "num_attention_heads": 4}
    small["num_key_value_heads"] = 4 if kv_heads in (None, heads) else min(2, kv_heads)
    small |= {
        key: value[:NUM_LAYERS] for key, value in fields.items() if isinstance(value, list) and len(value) == num_layers
    }
    with _said_as("a small configuration of it cannot be made"):
        made = type(config)(**{**fields, **small})
    made.architectures = config.architectures
    set_attention(made, "eager")
    return made


def _check_structure(model: PreTrainedModel) -> None:
    if not isinstance(getattr(model.base_model, "layers", None), nn.ModuleList):
        raise _MisfitError("its decoder layers are not in `layers`")
    for index, layer in enumerate(decoder_layers(model)):
        names = sublayer_names(layer)
        if "self_attn" not in names["attention"] or not {*names["mlp"]} & {*MLP_NAMES}:
            raise _MisfitError(
                f"layer {index} has no `self_attn` and `mlp`; it has {', '.join(dict(layer.named_children()))}"
            )


def _check_middle(model: PreTrainedModel) -> None:
    """Check that the state between attention and MLP, where a sweep separates the two, is the residual stream."""
    for index, layer in enumerate(decoder_layers(model)):
        without_mlp = _states(model, layer, DropLists((), (index,)))
        without_attention = _states(model, layer, DropLists((index,), ()))
        if not torch.equal(without_mlp["middle"], without_mlp["after"]):
            raise _MisfitError(f"the MLP of layer {index} does not see the residual state after attention")
        if not torch.equal(without_attention["middle"], without_attention["before"]):
            raise _MisfitError(
                f"the attention of layer {index} is not all that lies between the layer's input and its MLP"
            )


def _states(model: PreTrainedModel, layer: nn.Module, drops: DropLists) -> dict[str, torch.Tensor]:
    """The residual states before, within and after a layer of the base model, without the contributions of `drops`."""
    seen: dict[str, torch.Tensor] = {}
    entry = getattr(layer, sublayer_names(layer)["mlp"][0])
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: seen.update(before=args[0])),
        entry.register_forward_pre_hook(lambda _, args: seen.update(middle=args[0])),
        layer.register_forward_hook(lambda _, __, output: seen.update(after=output)),
    ]
    try:
        with _silenced(model, drops), _said_as("its layers are not called with the state first"):
            _logits(model)
        if not all(isinstance(state, torch.Tensor) for state in seen.values()):
            raise _MisfitError("its layers return more than the state")
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _check_cache(model: PreTrainedModel, drops: DropLists) -> None:
    settings = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with _said_as("it cannot generate"), torch.no_grad():
        with_cache = model.generate(TOKENS, use_cache=True, **settings)
        without = model.generate(TOKENS, use_cache=False, **settings)
        cache = model(TOKENS, use_cache=True).past_key_values
    if not torch.equal(with_cache, without):
        raise _MisfitError(f"without {drops} it generates other tokens with a KV cache than without one")
    if len(cache.layers) != NUM_LAYERS - len(drops.attn):
        raise _MisfitError(f"without {drops} its KV cache has {len(cache.layers)} layers")


def _logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(TOKENS, use_cache=False).logits
    return logits


@contextmanager
def _silenced(model: PreTrainedModel, drops: DropLists) -> Iterator[None]:
    """Multiply the outputs of the dropped sub-layers by zero."""

    def silence(_: nn.Module, __: Any, output: Any) -> Any:
        return (output[0] * 0, *output[1:]) if isinstance(output, tuple) else output * 0

    layers = decoder_layers(model)
    modules: list[Any] = [layers[index].self_attn for index in drops.attn]
    modules += [_mlp_of(layers[index]) for index in drops.mlp]
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(silence).remove)
        yield


def _mlp_of(layer: nn.Module) -> Any:
    return next(getattr(layer, name) for name in MLP_NAMES if hasattr(layer, name))


@contextmanager
def _said_as(what: str) -> Iterator[None]:
    """Turn any error of an unknown architecture's code into the reason why it does not fit."""
    try:
        yield
    except Exception as error:
        raise _MisfitError(
            f"{what} ({type(error).__name__}: {error}) in transformers {transformers.__version__}"
        ) from error
