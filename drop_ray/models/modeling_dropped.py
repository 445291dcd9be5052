"""Causal language models without some of their attention or MLP sub-layers.

`DroppedLlamaConfig`, `DroppedLlamaForCausalLM` and the like for any decoder of transformers are made on first access
from the library's own class, which is not copied: after it is built, the modules of a dropped sub-layer are replaced by
stand-ins without parameters, and the KV cache is made for the kept token mixers only. A mixer is an attention or what
has its place: linear attention, a state space model, a convolution. Drop lists call all of them attention.

This file and those that it imports beside it need nothing but torch and transformers, so that they also serve as the
`auto_map` files of a checkpoint.
"""

import copy
import functools
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import transformers
from torch import nn
from transformers.cache_utils import Cache, get_layer_types_and_kwargs

from .split_experts import has_packed_linears, split_experts
from .sublayers import drop_indices, is_norm, layers_and_path, sublayer_names

# Types of layers in a cache whose state does not grow with the tokens, so that it does not know how many there are.
CONSTANT = ("linear_attention", "conv", "moe", "mlp")


class Nothing(nn.Module):
    """Stands in for a dropped sub-layer: it adds zero to the residual stream."""

    def __init__(self, returned_values):
        """returned_values: how many the layer unpacks; 0 where it takes the tensor itself."""
        super().__init__()
        self.returned_values = returned_values
        self.counts_in = None  # the place in the cache that it counts the tokens in, if no kept mixer does

    def forward(self, *args, **kwargs):
        given = (*args, *kwargs.values())
        hidden = next(value for value in given if isinstance(value, torch.Tensor) and value.is_floating_point())
        cache = next((value for value in given if isinstance(value, Cache)), None)
        if self.counts_in is not None and cache is not None:
            nothing = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[1], 0)  # keys and values without width
            cache.update(nothing, nothing, self.counts_in)
        zero = torch.zeros_like(hidden)  # of the state's own shape: a layer may view it, or add to it in place
        return (zero, *[None] * (self.returned_values - 1)) if self.returned_values else zero


def counting_layer(layer_types: Iterable[str], dropped: Iterable[int]) -> int | None:
    """The dropped layer whose place in the cache stays, to count the tokens; None where a kept mixer counts them.

    transformers asks the attention in a cache how many tokens it holds, and fails if only constant states are there.
    """
    counting = [index for index, kind in enumerate(layer_types) if kind not in CONSTANT]
    kept = set(range(len(tuple(layer_types)))).difference(dropped)
    return counting[0] if counting and kept and not kept.intersection(counting) else None


def returned_values(name: str, module: nn.Module, returned: Mapping[str, int] | None) -> int:
    """How many values a module returns to its layer; 0 for a tensor. returned: by class, where not as most do."""
    return (returned or {}).get(type(module).__name__, 2 if name == "self_attn" else 0)


def stand_in(layer: nn.Module, name: str) -> nn.Module:
    """What takes the place of a module of a dropped sub-layer. The layer is one of a `DroppedModel`."""
    if is_norm(name):
        return nn.Identity()
    part = getattr(layer, name)
    nothing = Nothing(getattr(part, "returned_values", 2 if name == "self_attn" else 0))
    # Families compute some anew when a checkpoint is loaded, and look for them in every layer (Falcon-H1).
    for key in part._non_persistent_buffers_set:
        nothing.register_buffer(key, getattr(part, key), persistent=False)
    return nothing


class DroppedConfig:
    """Mixed into a configuration class. It names the layers whose attention, and those whose MLP, is absent.

    `returned_values` says how many values the classes of sub-layers return that return another number than most.
    """

    drop_attn_list: list | None = None
    drop_mlp_list: list | None = None
    returned_values: dict | None = None

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """Load a configuration, and let AutoModelForCausalLM know its model from then on."""
        _register(cls)
        return super().from_dict(config_dict, **kwargs)

    def get_text_config(self, decoder=None, encoder=None):
        """With `decoder=True`, from which transformers makes a KV cache, only the kept attention layers."""
        config = super().get_text_config(decoder=decoder, encoder=encoder)
        dropped = drop_indices(self.drop_attn_list)
        if not decoder or not dropped:
            return config
        layer_types, _ = get_layer_types_and_kwargs(config)
        counting = counting_layer(layer_types, dropped)
        kept = [index for index in range(len(layer_types)) if index not in dropped or index == counting]
        configs = list(config.per_layer_config)
        config = copy.copy(config)
        config.__class__ = _cached_class(type(config))
        config.num_hidden_layers, config.layer_types = len(kept), [layer_types[index] for index in kept]
        config.per_layer_config, config.num_kv_shared_layers = [configs[index] for index in kept], 0
        return config


class DroppedWrapperConfig:
    """Mixed into the configuration class of a wrapper, whose `text_config` names what its decoder lacks."""

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """Load a configuration, and let AutoModelForImageTextToText know its model from then on."""
        _register(cls)
        return super().from_dict(config_dict, **kwargs)

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if not isinstance(self.text_config, DroppedConfig):
            self.text_config = copy.copy(self.text_config)
            self.text_config.__class__ = _inner_class(type(self.text_config))

    def get_text_config(self, decoder=None, encoder=None):
        """The decoder's own, from which transformers makes the KV cache."""
        return super().get_text_config(decoder, encoder).get_text_config(decoder, encoder)


def _inner_class(base):
    """The configuration class of a decoder in a wrapper. It keeps the type by which the wrapper finds its classes."""
    made = dropped_class(f"Inner{base.__name__}", _home(base))
    if base in transformers.MODEL_MAPPING:
        transformers.MODEL_MAPPING.register(made, transformers.MODEL_MAPPING[base], exist_ok=True)
    return made


@functools.cache
def _cached_class(config_class):
    """A configuration class whose objects have the layers that a KV cache is made for, whatever the class computes."""
    names = ("num_hidden_layers", "layer_types", "per_layer_config", "num_kv_shared_layers")
    others = {key: name for key, name in config_class.attribute_map.items() if key not in names}
    # generate() asks the result once more for its decoder
    alone = {"attribute_map": others, "get_text_config": lambda self, **_: self}
    return type(f"Cached{config_class.__name__}", (config_class,), {**dict.fromkeys(names), **alone})


def with_drops(
    config: Any,
    drop_attn: Iterable[int] = (),
    drop_mlp: Iterable[int] = (),
    returned_values: Mapping[str, int] | None = None,
) -> Any:
    """The dropped class's configuration made from the family's own, with the two drop lists."""
    config_class = dropped_config_class(type(config))
    fields = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "auto_map")}
    lists = {"drop_attn_list": sorted(drop_attn), "drop_mlp_list": sorted(drop_mlp)}
    recorded = {"returned_values": dict(returned_values)} if returned_values else {}
    fields.get("text_config", fields).update({**lists, **recorded})
    dropped = config_class(**fields)
    dropped._attn_implementation = config._attn_implementation
    return dropped


class DroppedModel:
    """Mixed into a model class: replaces the dropped sub-layers, renumbers the kept ones in the KV cache."""

    def __init__(self, config, *args, **kwargs):
        # Its class does not tell: as remote code, a checkpoint's configuration and model each import a copy of this.
        if not hasattr(config.get_text_config(), "drop_attn_list"):
            config = with_drops(config)
        super().__init__(config, *args, **kwargs)
        text = config.get_text_config()
        dropped = {"attention": drop_indices(text.drop_attn_list), "mlp": drop_indices(text.drop_mlp_list)}
        ignored = set(self._keys_to_ignore_on_load_unexpected or ())
        path, layers = layers_and_path(self)
        counting = counting_layer(get_layer_types_and_kwargs(config.get_text_config())[0], dropped["attention"])
        numbers: dict[int, int] = {}
        for index, layer in enumerate(layers):
            layer.returned_values = returned_values("", layer, text.returned_values)
            for sublayer, names in sublayer_names(layer).items():
                for name in names:
                    part = getattr(layer, name)
                    part.returned_values = returned_values(name, part, text.returned_values)
                    if index in dropped[sublayer]:
                        setattr(layer, name, stand_in(layer, name))
                        ignored.add(rf"{path.rpartition('.')[2]}\.{index}\.{name}\.")
            if index == counting:
                numbers[index] = len(numbers)
                mixer = next(name for name in sublayer_names(layer)["attention"] if not is_norm(name))
                getattr(layer, mixer).counts_in = numbers[index]
            elif index not in dropped["attention"]:
                numbers[index] = len(numbers)
                for name in sublayer_names(layer)["attention"]:
                    _renumber(getattr(layer, name), numbers)
        # A full checkpoint may be loaded with drop lists: only the dropped tensors are passed over.
        self._keys_to_ignore_on_load_unexpected = ignored
        if has_packed_linears(config):
            split_experts(self)

    @classmethod
    def is_custom_code(cls):
        """It is built and initialized by the family's own code, which computes buffers that no checkpoint holds."""
        return False


def _renumber(mixer, numbers):
    """Give a mixer its place in the KV cache; numbers: the place of each layer that has one."""
    for part in mixer.modules():
        for name in ("layer_idx", "layer_id", "kv_shared_layer_index"):
            if isinstance(getattr(part, name, None), int):
                setattr(part, name, numbers[getattr(part, name)])


@functools.cache
def dropped_class(name: str, home: str) -> Any:
    """`DroppedXConfig` or `DroppedXForCausalLM`, made from the class X of the module `home`, else of transformers.

    `InnerXConfig` is that of a decoder in a wrapper. Saved checkpoints name `home` in their `auto_map`.
    """
    own = name.removeprefix("Dropped").removeprefix("Inner")
    base = vars(sys.modules[home]).get(own) or getattr(transformers, own, None)
    if own == name or not isinstance(base, type):
        raise AttributeError(f"module {home!r} has no attribute {name!r}")
    if not name.endswith("Config"):
        config_class = dropped_config_class(base.config_class)
        made = type(name, (DroppedModel, base), {"config_class": config_class, "__module__": home})
        made.register_for_auto_class(_auto_class(config_class).__name__)
        _share_conversions(base.config_class.model_type, config_class.model_type)
        _share_conversions(base.__name__, name)
        return made
    kind = base.model_type if name.startswith("Inner") else f"dropped_{base.model_type}"
    if _is_wrapper(base):
        made = type(name, (DroppedWrapperConfig, base), {"__module__": home, "model_type": kind})
    else:
        lists = {"drop_attn_list": None, "drop_mlp_list": None, "returned_values": None}
        notes = {"__annotations__": DroppedConfig.__annotations__, "__module__": home, "model_type": kind}
        made = type(name, (DroppedConfig, base), {**notes, **lists})
    if not name.startswith("Inner"):
        made.register_for_auto_class()
    return made


def dropped_config_class(base: type) -> Any:
    """The dropped configuration class of a family's own."""
    return dropped_class(f"Dropped{base.__name__}", _home(base))


def _home(base):
    """This module, unless a class is not one of transformers: then it is that class's module."""
    return __name__ if base.__module__.startswith("transformers.") else base.__module__


def _is_wrapper(config_class):
    return "text_config" in config_class.sub_configs


def _auto_class(config_class):
    return transformers.AutoModelForImageTextToText if _is_wrapper(config_class) else transformers.AutoModelForCausalLM


def _register(config_class):
    """Let the auto class of a dropped configuration know its model."""
    model_class = _model_class_of(config_class)
    if model_class is not None and model_class.config_class is config_class:
        _auto_class(config_class).register(config_class, model_class, exist_ok=True)


def _model_class_of(config_class):
    """The dropped model class of a configuration class.

    None for remote code whose modeling file is not there yet: its `auto_map` names the model.
    """
    # Importing it takes seconds, which a program that only registers the configurations should not wait for.
    from transformers.models.auto import modeling_auto

    tasks = "IMAGE_TEXT_TO_TEXT" if _is_wrapper(config_class) else "CAUSAL_LM"
    names = getattr(modeling_auto, f"MODEL_FOR_{tasks}_MAPPING_NAMES")
    base_name = names.get(config_class.model_type.removeprefix("dropped_"))
    if base_name:
        return dropped_class(f"Dropped{base_name}", config_class.__module__)
    home = config_class.__module__.replace("configuration_", "modeling_")
    if importlib.util.find_spec(home) is None:
        return None
    importlib.import_module(home)
    return dropped_class(config_class.__name__.removesuffix("Config") + "ForCausalLM", home)


def _share_conversions(own, dropped):
    """Give the dropped model the conversions by which transformers renames and fuses a family's tensors.

    They are listed by model type, or by the name of the class.
    """
    from transformers.conversion_mapping import (
        get_checkpoint_conversion_mapping,
        register_checkpoint_conversion_mapping,
    )

    conversions = get_checkpoint_conversion_mapping(own)
    if conversions:
        register_checkpoint_conversion_mapping(dropped, conversions, overwrite=True)


def __getattr__(name):
    return dropped_class(name, __name__)
