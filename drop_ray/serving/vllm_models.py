"""vLLM's models without some of their attention or MLP sub-layers, made when vLLM asks for one by its name.

`DroppedLlamaForCausalLM` and the like, for any architecture, are made on first access from vLLM's own class, which is
not copied: each layer loses its dropped sub-layers, their weights and their KV cache as soon as it is built. The names
in `sublayer_names` are those of vLLM's layers too. An architecture without a class in vLLM goes by its backend for
transformers models.
"""

import functools
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoConfig
from vllm.transformers_utils.config import register_config_parser

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.classes import base_config_class
from drop_ray.models.dropped import drop_lists_of_config
from drop_ray.models.families import FAMILIES, DropLists, check_drop_lists, family_name, is_refused_by_vllm
from drop_ray.models.modeling_dropped import returned_values, stand_in
from drop_ray.models.sublayers import drop_indices, layers_and_path, sublayer_names
from drop_ray.models.tied_head import TIED
from drop_ray.models.tracing import traits_of
from drop_ray.models.transformers_private import attention_of, causal_architectures, set_attention
from drop_ray.serving.vllm_private import (
    BackendHooks,
    ConfigParser,
    allow_ranks_without_attention,
    each_layer_built,
    forget_attention,
    forget_experts,
    forget_missing_layers,
    forget_states,
    is_of_backend,
    is_sequence_parallel,
    model_class,
    of_present_layers,
    relates_tokens,
    share_settings,
)
from drop_ray.serving.vllm_stand_ins import replace_sublayer
from drop_ray.serving.vllm_wrappers import why_not_served

# What the names of the layers of a language model inside a multimodal one have in common.
LANGUAGE_MODEL = "language_model."


# The drop lists of a configuration.
LISTS = ("drop_attn_list", "drop_mlp_list")


def install(architectures: Iterable[str]) -> None:
    """Make vLLM recognise drop lists wherever it reads a config.json; and DeepSeek-MoE, which transformers lacks.

    architectures: those that dropped classes are registered for.
    """
    allow_ranks_without_attention()
    for architecture in architectures:
        share_settings(architecture, f"Dropped{architecture}")
    # It replaces vLLM's own parser, which vLLM warns of. A parser of another name would have to be asked for.
    register_config_parser("hf")(DroppedConfigParser)
    for architecture, family in FAMILIES.items():
        if family.model_type not in CONFIG_MAPPING:
            AutoConfig.register(family.model_type, base_config_class(architecture), exist_ok=True)


class DroppedConfigParser(ConfigParser):
    """Reads config.json as vLLM does. With drop lists, there or in `hf_overrides`, it is that of a dropped model.

    A head in a local model's files that differs from the embedding is used, whatever config.json says, as transformers
    does. vLLM would pass it over.
    """

    def parse(self, model, *args, **kwargs):
        overrides = kwargs.get("hf_overrides")
        fields, config = super().parse(model, *args, **kwargs)
        _recognise(config, overrides if isinstance(overrides, dict) else {}, model)
        if getattr(config, TIED, False) and _has_own_head(config, Path(model)):
            setattr(config, TIED, False)
        return fields, config


def _has_own_head(config, folder):
    names = {family_name(name) for name in config.architectures or ()}
    if not names & FAMILIES.keys() or not folder.is_dir():
        return False
    try:
        return open_checkpoint(folder).config.get(TIED) is False
    except UserError:  # such as a format of weights that vLLM alone reads
        return False


def _recognise(config, overrides, location):
    """Give a configuration with drop lists the architecture of a dropped model, in place.

    A multimodal model has its lists where it has the settings of its language model.
    """
    own, text = DropLists(), config.get_text_config()
    if (config.model_type or "").startswith("dropped_"):
        own = drop_lists_of_config(text)
        # vLLM decides by the model type, for example whether attention is latent (DeepSeek).
        # Saving takes it from the class.
        config.model_type = config.model_type.removeprefix("dropped_")
    inner = overrides.get("text_config")
    if isinstance(inner, dict) and {*LISTS} & {*inner}:  # vLLM applies these when it has built its settings
        raise ValueError(f"{location}: give {' and '.join(LISTS)} in hf_overrides itself, not in its text_config")
    lists = {field: overrides.get(field, getattr(text, field, None)) for field in LISTS}
    drops = DropLists(*(tuple(drop_indices(entries)) for entries in lists.values()))
    if drops.union(own) != drops:
        raise ValueError(f"{location} lacks more than hf_overrides drops: name all of {own.as_identity()} too")
    if not drops.count:
        return
    check_drop_lists(drops, text.num_hidden_layers, f"{location}: config.json")
    base = family_name((overrides.get("architectures") or config.architectures or ["no architecture"])[0])
    if is_refused_by_vllm(base):
        raise ValueError(f"{location}: {base} has drop lists, which vLLM is not taught; drop_ray.load loads it")
    if text is not config:
        if why := why_not_served(base, location):
            raise ValueError(why)
        for field, entries in lists.items():
            setattr(text, field, entries)
    elif not hasattr(config, "returned_values"):  # a full checkpoint, whose config.json does not state them
        config.returned_values = _seen_values(config, base)
    config.architectures = [f"Dropped{base}"]
    if "architectures" in overrides:  # which vLLM applies after this
        overrides["architectures"] = config.architectures


def _seen_values(config, architecture):
    """How many values the modules of transformers' layers return, which only vLLM's backend needs.

    A small model is run for an unlisted family: here, as the backend changes the classes of transformers.
    """
    if architecture in FAMILIES:
        return dict(FAMILIES[architecture].returned_values)
    if architecture not in causal_architectures():
        return {}
    return dict(traits_of(_base_config(config, architecture), architecture).returned_values)


def _base_config(config, architecture):
    fields = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "auto_map")}
    return base_config_class(architecture)(**fields)


class DroppedModel:
    """Mixin for a class that builds its layers with vLLM's `make_layers`."""

    def __init__(self, *, vllm_config, prefix="", **kwargs):
        _check_dtype(vllm_config)
        model, compilation_config = vllm_config.model_config, vllm_config.compilation_config
        drops = drop_lists_of_config(model.hf_text_config)
        has_towers = model.hf_text_config is not model.hf_config  # whose layers stay
        found = []

        def change(layer, name):
            if not has_towers or LANGUAGE_MODEL in name:
                found.append(name)
                _drop_from(layer, name, drops, compilation_config)

        with each_layer_built(change):
            super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)
        if not found:
            raise ValueError(
                f"drop_ray does not find the layers of vLLM's {type(self).__name__.removeprefix('Dropped')}"
            )
        forget_states(vllm_config)

    def load_weights(self, weights):
        loaded = super().load_weights(of_present_layers(self, weights))
        forget_missing_layers(self)
        return loaded


class DroppedBackendModel(BackendHooks):
    """Mixin for vLLM's backend for transformers models, which serves families without a class in vLLM."""

    def full_config(self):
        """The base's configuration. vLLM builds the whole base from it, on the meta device."""
        config = _base_config(self.config, type(self).__name__.removeprefix("Dropped"))
        set_attention(config, attention_of(self.text_config))
        return config

    def pipeline_parallel(self):
        """Replace the dropped sub-layers. vLLM calls this right after it has built the model."""
        drops = drop_lists_of_config(self.config)
        path, layers = layers_and_path(self.model)
        for index, layer in enumerate(layers):
            for name in chain.from_iterable(_dropped_names(layer, index, drops)):
                part = getattr(layer, name)
                part.returned_values = returned_values(name, part, self.config.returned_values)
                setattr(layer, name, stand_in(layer, name))
                self.ignore_unexpected_prefixes.append(f"model.{path}.{index}.{name}.")
        super().pipeline_parallel()


@functools.cache
def _dropped_class(name):
    architecture = name.removeprefix("Dropped")
    if not name.startswith("Dropped"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    config = base_config_class(architecture)() if architecture in causal_architectures() else None
    base = model_class(architecture, config)
    mixin = DroppedBackendModel if is_of_backend(base) else DroppedModel
    return type(name, (mixin, base), {"__module__": __name__})


def _drop_from(layer, prefix, drops, compilation_config):
    """Replace the dropped sub-layers of a layer just built, and take them out of vLLM's lists of attentions and MoEs.

    `prefix` is the layer's name, such as `model.layers.3`. Only attentions that are in the list get a KV cache.
    """
    if is_sequence_parallel(layer):
        raise ValueError("dropped models are not served with sequence-parallel experts: leave out expert parallelism")
    if not hasattr(layer, "block_type"):  # which `sublayer_names` asks where a layer has one sub-layer (Nemotron-H)
        layer.block_type = "attention" if relates_tokens(layer) else "mlp"
    index = int(prefix.rpartition(".")[2])
    for names in _dropped_names(layer, index, drops):
        for gone in replace_sublayer(layer, names):
            forget_attention(compilation_config, gone)
    if index in drops.mlp:
        forget_experts(layer)


def _dropped_names(layer, index, drops):
    """The modules of each dropped sub-layer of a layer, in the order of `sublayer_names`."""
    names = sublayer_names(layer)
    dropped = {"attention": index in drops.attn, "mlp": index in drops.mlp}
    for sublayer, is_dropped in dropped.items():
        if is_dropped and not names[sublayer]:
            raise ValueError(f"layer {index} has no {sublayer} to drop: {type(layer).__name__} has {names}")
    return [names[sublayer] for sublayer, is_dropped in dropped.items() if is_dropped]


def _check_dtype(vllm_config):
    """Refuse DeepSeek in float16: there vLLM lets attention and MLP rescale the residual, which needs both."""
    model = vllm_config.model_config
    if model.dtype == torch.float16 and model.hf_config.model_type.startswith("deepseek"):
        raise ValueError("a dropped DeepSeek is not served in float16: give --dtype bfloat16 or float32")


def __getattr__(name):
    return _dropped_class(name)
