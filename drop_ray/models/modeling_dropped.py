"""Causal language models without some of their attention or MLP sub-layers.

`DroppedLlamaConfig`, `DroppedLlamaForCausalLM` and the like for any decoder of transformers are made on first access
from the library's own class, which is not copied: after it is built, the modules of a dropped sub-layer are replaced by
stand-ins without parameters, and the KV cache is made for the kept attention layers only.

This file needs nothing but torch and transformers, so that it also serves as the `auto_map` file of a checkpoint.
"""

import copy
import functools
import importlib.util
import sys
from collections.abc import Iterable
from typing import Any

import transformers
from torch import nn
from transformers.cache_utils import get_layer_types_and_kwargs

# The names under which decoders of transformers keep their feed-forward sub-layer.
MLP_NAMES = ("mlp", "block_sparse_moe")


def drop_indices(drop_list: Iterable[int] | None) -> frozenset[int]:
    """Layer indices of a drop list: `[3, 1]`, or the paper's other spelling, one bool a layer. None is empty."""
    drop_list = list(drop_list or ())
    if any(isinstance(entry, bool) for entry in drop_list):
        return frozenset(index for index, is_dropped in enumerate(drop_list) if is_dropped)
    return frozenset(drop_list)


def sublayer_names(layer: nn.Module) -> dict[str, list[str]]:
    """Names of the modules of a decoder layer that make its attention and its MLP, each with its norms.

    The first name of the MLP is the module that receives the residual state between the two sub-layers: its norm, or
    the MLP itself where the only norm comes after it (OLMo 2 and 3).
    """
    has_output_norms = hasattr(layer, "post_feedforward_layernorm")
    mlp_norm = "pre_feedforward_layernorm" if has_output_norms else "post_attention_layernorm"
    attention = ["input_layernorm", "self_attn", *(["post_attention_layernorm"] if has_output_norms else [])]
    mlp = [mlp_norm, *MLP_NAMES, "post_feedforward_layernorm"]
    return {
        "attention": [name for name in attention if hasattr(layer, name)],
        "mlp": [name for name in mlp if hasattr(layer, name)],
    }


class Nothing(nn.Module):
    """Stands in for a dropped sub-layer: it adds zero to the residual stream."""

    def __init__(self, returns_weights):
        super().__init__()
        self.returns_weights = returns_weights

    def forward(self, hidden_states, *_, **__):
        zero = hidden_states.new_zeros(())
        return (zero, None) if self.returns_weights else zero


class DroppedConfig:
    """Mixed into a configuration class. It names the layers whose attention, and those whose MLP, is absent."""

    drop_attn_list: list | None = None
    drop_mlp_list: list | None = None

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """Load a configuration, and let AutoModelForCausalLM know its model from then on."""
        model_class = _model_class_of(cls)
        if model_class is not None and model_class.config_class is cls:
            transformers.AutoModelForCausalLM.register(cls, model_class, exist_ok=True)
        return super().from_dict(config_dict, **kwargs)

    def get_text_config(self, decoder=None, encoder=None):
        """With `decoder=True`, from which transformers makes a KV cache, only the kept attention layers."""
        config = super().get_text_config(decoder=decoder, encoder=encoder)
        dropped = drop_indices(self.drop_attn_list)
        if not decoder or not dropped:
            return config
        layer_types, _ = get_layer_types_and_kwargs(config)
        kept = [layer_type for index, layer_type in enumerate(layer_types) if index not in dropped]
        config = copy.copy(config)
        config.num_hidden_layers, config.layer_types = len(kept), kept
        config.drop_attn_list = None  # generate() asks the result once more for its decoder
        return config


def with_drops(config: Any, drop_attn: Iterable[int] = (), drop_mlp: Iterable[int] = ()) -> Any:
    """The dropped class's configuration made from the family's own, with the two drop lists."""
    config_class = dropped_config_class(type(config))
    fields = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "auto_map")}
    dropped = config_class(**{**fields, "drop_attn_list": sorted(drop_attn), "drop_mlp_list": sorted(drop_mlp)})
    dropped._attn_implementation = config._attn_implementation
    return dropped


class DroppedModel:
    """Mixed into a model class: replaces the dropped sub-layers, renumbers the kept ones in the KV cache."""

    def __init__(self, config, *args, **kwargs):
        # Its class does not tell: as remote code, a checkpoint's configuration and model each import a copy of this.
        if not hasattr(config, "drop_attn_list"):
            config = with_drops(config)
        super().__init__(config, *args, **kwargs)
        dropped = {"attention": drop_indices(config.drop_attn_list), "mlp": drop_indices(config.drop_mlp_list)}
        ignored = set(self._keys_to_ignore_on_load_unexpected or ())
        num_kept = 0
        for index, layer in enumerate(self.base_model.layers):
            for sublayer, names in sublayer_names(layer).items():
                for name in names if index in dropped[sublayer] else ():
                    setattr(layer, name, nn.Identity() if "norm" in name else Nothing(name == "self_attn"))
                    ignored.add(rf"layers\.{index}\.{name}\.")
            if index not in dropped["attention"]:
                layer.self_attn.layer_idx = num_kept
                num_kept += 1
        # A full checkpoint may be loaded with drop lists: only the dropped tensors are passed over.
        self._keys_to_ignore_on_load_unexpected = ignored


@functools.cache
def dropped_class(name: str, home: str) -> Any:
    """`DroppedXConfig` or `DroppedXForCausalLM`, made from the class X of the module `home`, else of transformers.

    Saved checkpoints name `home` in their `auto_map`.
    """
    base = vars(sys.modules[home]).get(name.removeprefix("Dropped"))
    base = base or getattr(transformers, name.removeprefix("Dropped"), None)
    if not name.startswith("Dropped") or not isinstance(base, type):
        raise AttributeError(f"module {home!r} has no attribute {name!r}")
    if not name.endswith("Config"):
        config_class = dropped_config_class(base.config_class)
        made = type(name, (DroppedModel, base), {"config_class": config_class, "__module__": home})
        made.register_for_auto_class("AutoModelForCausalLM")
        _share_conversions(base.config_class.model_type, config_class.model_type)
        return made
    made = type(
        name,
        (DroppedConfig, base),
        {
            "__module__": home,
            "__annotations__": DroppedConfig.__annotations__,
            "model_type": f"dropped_{base.model_type}",
            "drop_attn_list": None,
            "drop_mlp_list": None,
        },
    )
    made.register_for_auto_class()
    return made


def dropped_config_class(base: type) -> Any:
    """The dropped configuration class of a family's own.

    It is in this module, unless the family's class is not one of transformers: then it is in that class's module.
    """
    home = __name__ if base.__module__.startswith("transformers.") else base.__module__
    return dropped_class(f"Dropped{base.__name__}", home)


def _model_class_of(config_class):
    """The dropped model class of a configuration class.

    None for remote code whose modeling file is not there yet: its `auto_map` names the model.
    """
    # Importing it takes seconds, which a program that only registers the configurations should not wait for.
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    base_name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config_class.model_type.removeprefix("dropped_"))
    if base_name:
        return dropped_class(f"Dropped{base_name}", config_class.__module__)
    home = config_class.__module__.replace("configuration_", "modeling_")
    if importlib.util.find_spec(home) is None:
        return None
    importlib.import_module(home)
    return dropped_class(config_class.__name__.removesuffix("Config") + "ForCausalLM", home)


def _share_conversions(model_type, dropped_type):
    """Give the dropped model type the conversions by which transformers renames and fuses a family's tensors."""
    from transformers.conversion_mapping import (
        get_checkpoint_conversion_mapping,
        register_checkpoint_conversion_mapping,
    )

    conversions = get_checkpoint_conversion_mapping(model_type)
    if conversions:
        register_checkpoint_conversion_mapping(dropped_type, conversions, overwrite=True)


def __getattr__(name):
    return dropped_class(name, __name__)
