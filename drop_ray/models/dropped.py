"""Builds a (dropped) model from a checkpoint's configuration, without its weights."""

import copy
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.candidates import layers_of
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.classes import base_config_class, base_model_class, dropped_model_class
from drop_ray.models.config_faults import check_values, said_of_config
from drop_ray.models.families import FAMILIES, DropLists, architecture_of, check_drop_lists
from drop_ray.models.modeling_dropped import with_drops
from drop_ray.models.sublayers import drop_indices, find_layers
from drop_ray.models.tracing import set_traits, traits_of
from drop_ray.models.transformers_private import kept_dtypes, model_of, set_attention, supports_sdpa, with_floats
from drop_ray.models.wrappers import TEXT

# Fields of config.json that say which code reads it, or how its weights are stored, and not what the model is.
NOT_OF_THE_MODEL = ("model_type", "auto_map", "quantization_config")


def read_config(checkpoint: Checkpoint) -> Any:
    """The family's own transformers configuration, whether the checkpoint is a base or a dropped model.

    UserError, with the field, if config.json does not describe one.
    """
    architecture = architecture_of(checkpoint.config, checkpoint.location)
    stated = {key: value for key, value in checkpoint.config.items() if key not in NOT_OF_THE_MODEL}
    inside = f": {TEXT}" if checkpoint.whole else ""
    fields, what = with_floats(stated), f"model.path: {checkpoint.location}/config.json{inside}"
    config_class = base_config_class(architecture)
    with said_of_config(what, fields, lambda rest: config_class(**rest)):
        config = config_class(**fields)
    check_values(config, fields, what)
    config.architectures = [architecture]
    return config


def drop_lists_of(checkpoint: Checkpoint) -> DropLists:
    """The drop lists in a checkpoint's own config.json; empty for a base model.

    UserError if its lists do not fit it.
    """
    lists = {field: checkpoint.config.get(field) or [] for field in ("drop_attn_list", "drop_mlp_list")}
    if not any(lists.values()):
        return DropLists()
    num_layers = read_config(checkpoint).num_hidden_layers
    source = f"model.path: {checkpoint.location}/config.json"
    for field, entries in lists.items():
        _check_spelling(entries, num_layers, f"{source}: {field}")
    drops = DropLists(*(tuple(drop_indices(entries)) for entries in lists.values()))
    check_drop_lists(drops, num_layers, source)
    return drops


def drop_lists_of_model(model: PreTrainedModel) -> DropLists:
    """The sub-layers that a loaded model lacks; empty lists for a model of transformers' own classes."""
    return drop_lists_of_config(model.config)


def drop_lists_of_config(config: Any) -> DropLists:
    """The drop lists of a configuration object; empty where it has none."""
    attn, mlp = (drop_indices(getattr(config, field, None)) for field in ("drop_attn_list", "drop_mlp_list"))
    return DropLists(tuple(attn), tuple(mlp))


def build_skeleton(
    config: Any, drops: DropLists, dtype: torch.dtype, attn_implementation: str | None = None
) -> PreTrainedModel:
    """The model with the sub-layers of `drops` absent, its parameters on the meta device, its buffers real.

    `config` is the family's own configuration, from `read_config`. An `attn_implementation` of None takes the family's
    default. UserError if the drop lists do not fit the layers, or the attention implementation does not fit the family.
    """
    check_drop_lists(drops, config.num_hidden_layers, "drop lists")
    config = copy.deepcopy(config)
    architecture = config.architectures[0]
    set_attention(config, attention_for(architecture, attn_implementation))
    with said_of_config(f"model.path: config.json makes no {architecture}", {}, lambda _: None):
        traits = traits_of(config, architecture)
    if drops.attn and getattr(config, "num_kv_shared_layers", None):
        # A model without what its layers read cannot be built.
        layers_of(base_skeleton(config, dtype)).check(drops, "drop lists")
    config = with_drops(config, drops.attn, drops.mlp, traits.returned_values)
    config.architectures = [f"Dropped{architecture}"]
    model = skeleton_of(dropped_model_class(architecture), config, dtype, architecture)
    layers_of(model).check(drops, "drop lists")
    set_traits(model, traits)
    return model


def base_skeleton(config: Any, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    """The model of the family's own class, of any family: nothing can be dropped from it. Else as `build_skeleton`.

    UserError, with the field where it can be known, if the class makes no model of the configuration.
    """
    architecture = config.architectures[0]
    return skeleton_of(base_model_class(architecture), config, dtype, architecture)


def skeleton_of(model_class: Any, config: Any, dtype: torch.dtype, architecture: str) -> PreTrainedModel:
    """The model of that class and configuration, its parameters on the meta device. architecture: for messages."""
    model = _without_weights(model_class, config, dtype, architecture).eval()
    model.tie_weights()  # parameters that were made on the meta device are tied no more
    _keep_in_float32(model, dtype)
    return model


def _without_weights(model_class: Any, config: Any, dtype: torch.dtype, architecture: str) -> PreTrainedModel:
    def build(config: Any) -> PreTrainedModel:
        with init_empty_weights(include_buffers=False):
            return model_of(model_class, config, dtype)

    fields = {key: value for key, value in config.to_dict().items() if key not in NOT_OF_THE_MODEL}
    what = f"model.path: config.json makes no {architecture}"
    with said_of_config(what, fields, lambda rest: build(type(config)(**rest))):
        return build(config)


def checkpoint_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """The dtype that config.json states, or float32, the default of transformers, where it states none."""
    name = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype") or "float32"
    return parse_dtype(name)


def parse_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UserError(f"model.dtype: {name} is not a floating point type; use bfloat16, float16 or float32")
    return dtype


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers of a causal language model, wherever they stand. `layers_replaced` replaces them."""
    return find_layers(model)


def _keep_in_float32(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Keep tensors in float32 that transformers loads so in any dtype, such as the expert bias of DeepSeek-V3."""
    dtypes = kept_dtypes(model, dtype)
    for module in model.modules():
        for name, parameter in [*module.named_parameters(recurse=False, remove_duplicate=False)]:
            if name in dtypes:
                setattr(module, name, nn.Parameter(parameter.to(dtypes[name]), parameter.requires_grad))
        for name, buffer in [*module.named_buffers(recurse=False, remove_duplicate=False)]:
            if name in dtypes:
                setattr(module, name, buffer.to(dtypes[name]))


def attention_for(architecture: str, wanted: str | None = None) -> str:
    """The attention implementation that a model of the architecture is built with: the one wanted, or its default.

    UserError for one that its class lacks, or that leaves out what the family was trained with.
    """
    family = FAMILIES.get(architecture)
    if wanted == "sdpa" and family and family.needs_eager:
        raise UserError(
            f"model.attn_implementation: sdpa leaves out the soft caps of {family.models}; set it to eager, or to "
            "flash_attention_2 on a GPU"
        )
    has_sdpa = supports_sdpa(base_model_class(architecture))
    if wanted == "sdpa" and not has_sdpa:
        raise UserError(f"model.attn_implementation: {architecture} has no sdpa in transformers; set it to eager")
    return wanted or ("eager" if not has_sdpa or (family and family.needs_eager) else "sdpa")


def _check_spelling(entries: Any, num_layers: int, source: str) -> None:
    """Raise UserError unless `entries` lists layer numbers, or has one boolean for each layer."""
    kinds = {type(entry) for entry in entries} if isinstance(entries, list) else set()
    if not isinstance(entries, list) or kinds not in (set(), {int}, {bool}):
        raise UserError(f"{source} is {entries}; list the numbers of the dropped layers, or one boolean for each layer")
    if kinds == {bool} and len(entries) != num_layers:
        raise UserError(f"{source} has {len(entries)} booleans for {num_layers} layers; list one for each layer")


def end_ids(config: Any) -> set[int]:
    """The token ids that end a text, as a configuration says."""
    ends = config.eos_token_id
    return {token for token in (ends if isinstance(ends, list) else [ends]) if token is not None}


def special_ids(config: Any) -> set[int]:
    """The token ids that begin, end or fill a sequence, as a configuration says: no text becomes them."""
    return end_ids(config) | {token for token in (config.bos_token_id, config.pad_token_id) if token is not None}
