"""vLLM's models without some of their attention or MLP sub-layers, made when vLLM asks for one by its name.

`DroppedLlamaForCausalLM` and the like are made on first access from vLLM's own class, which is not copied: each layer
loses its dropped sub-layers, their weights and their KV cache as soon as it is built. vLLM's layers have the attribute
names of transformers' own, so `sublayer_names` holds for both.

A layer of vLLM passes the output of its last sub-layer on without adding it to the residual: the next norm adds it. The
module that replaces a dropped sub-layer therefore passes on the output that is pending.
"""

import functools
from itertools import chain
from pathlib import Path

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig
from vllm.transformers_utils.config import register_config_parser

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.classes import base_config_class
from drop_ray.models.dropped import drop_lists_of_config
from drop_ray.models.families import FAMILIES, DropLists, check_drop_lists, family_name
from drop_ray.models.modeling_dropped import Nothing, drop_indices, sublayer_names
from drop_ray.models.tied_head import TIED
from drop_ray.models.transformers_private import attention_of, set_attention
from drop_ray.serving.vllm_private import (
    BackendHooks,
    ConfigParser,
    MissingLayer,
    allow_ranks_without_attention,
    each_layer_built,
    forget_attention,
    forget_missing_layers,
    is_of_backend,
    is_sequence_parallel,
    model_class,
)


def install() -> None:
    """Make vLLM recognise drop lists wherever it reads a config.json; and DeepSeek-MoE, which transformers lacks."""
    allow_ranks_without_attention()
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
    """Give a configuration with drop lists the architecture of a dropped model, in place."""
    own = DropLists()
    if (config.model_type or "").startswith("dropped_"):
        own = drop_lists_of_config(config)
        # vLLM decides by the model type, for example whether attention is latent (DeepSeek).
        # Saving takes it from the class.
        config.model_type = config.model_type.removeprefix("dropped_")
    lists = {field: overrides.get(field, getattr(config, field, None)) for field in ("drop_attn_list", "drop_mlp_list")}
    drops = DropLists(*(tuple(drop_indices(entries)) for entries in lists.values()))
    if drops.union(own) != drops:
        raise ValueError(f"{location} lacks more than hf_overrides drops: name all of {own.as_identity()} too")
    if not drops.count:
        return
    check_drop_lists(drops, config.num_hidden_layers, f"{location}: config.json")
    base = family_name((overrides.get("architectures") or config.architectures or ["no architecture"])[0])
    if base not in FAMILIES:
        raise ValueError(f"{location}: {base} has drop lists; drop_ray serves them for {', '.join(FAMILIES)}")
    config.architectures = [f"Dropped{base}"]
    if "architectures" in overrides:  # which vLLM applies after this
        overrides["architectures"] = config.architectures


class NoAttention(MissingLayer):
    """Replaces an attention. Weight loaders of vLLM skip the tensors of a `MissingLayer`."""

    def forward(self, positions, hidden_states, *_, **__):  # noqa: ARG002
        return hidden_states


class NoMlp(MissingLayer):
    """Replaces an MLP, or a norm after a sub-layer."""

    def forward(self, hidden_states, *_, **__):
        return hidden_states


class NoNorm(MissingLayer):
    """Replaces the norm before a sub-layer, which would have added the pending output."""

    def forward(self, hidden_states, residual=None):
        if residual is None:  # the first norm of the model: its caller keeps the input as the residual
            return torch.zeros_like(hidden_states)
        return hidden_states, residual


class DroppedModel:
    """Mixin for a class that builds its layers with vLLM's `make_layers`."""

    def __init__(self, *, vllm_config, prefix="", **kwargs):
        _check_dtype(vllm_config)
        drops = drop_lists_of_config(vllm_config.model_config.hf_config)
        with each_layer_built(lambda layer, name: _drop_from(layer, name, drops, vllm_config.compilation_config)):
            super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)

    def load_weights(self, weights):
        loaded = super().load_weights(weights)
        forget_missing_layers(self)
        return loaded


class DroppedBackendModel(BackendHooks):
    """Mixin for vLLM's backend for transformers models, which serves families without a class in vLLM."""

    def full_config(self):
        """The base's configuration. vLLM builds the whole base from it, on the meta device."""
        architecture = type(self).__name__.removeprefix("Dropped")
        fields = {key: value for key, value in self.config.to_dict().items() if key not in ("model_type", "auto_map")}
        config = base_config_class(architecture)(**fields)
        set_attention(config, attention_of(self.text_config))
        return config

    def pipeline_parallel(self):
        """Replace the dropped sub-layers. vLLM calls this right after it has built the model."""
        drops = drop_lists_of_config(self.config)
        for index, layer in enumerate(self.model.layers):
            for name in chain.from_iterable(_dropped_names(layer, index, drops)):
                setattr(layer, name, nn.Identity() if "norm" in name else Nothing(name == "self_attn"))
                self.ignore_unexpected_prefixes.append(f"model.layers.{index}.{name}.")
        super().pipeline_parallel()


@functools.cache
def _dropped_class(name):
    architecture = name.removeprefix("Dropped")
    if not name.startswith("Dropped") or architecture not in FAMILIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = model_class(architecture)
    mixin = DroppedBackendModel if is_of_backend(base) else DroppedModel
    return type(name, (mixin, base), {"__module__": __name__})


def _drop_from(layer, prefix, drops, compilation_config):
    """Replace the dropped sub-layers of a layer just built, and take them out of vLLM's lists of attentions and MoEs.

    `prefix` is the layer's name, such as `model.layers.3`. Only attentions that are in the list get a KV cache.
    """
    if is_sequence_parallel(layer):
        raise ValueError("dropped models are not served with sequence-parallel experts: leave out expert parallelism")
    for names in _dropped_names(layer, int(prefix.rpartition(".")[2]), drops):
        for name in names:
            setattr(layer, name, NoAttention() if name == "self_attn" else NoNorm() if name == names[0] else NoMlp())
            forget_attention(compilation_config, f"{prefix}.{name}.")


def _dropped_names(layer, index, drops):
    """The modules of each dropped sub-layer of a layer, in the order of `sublayer_names`."""
    names = sublayer_names(layer)
    return [names["attention"]] * (index in drops.attn) + [names["mlp"]] * (index in drops.mlp)


def _check_dtype(vllm_config):
    """Refuse DeepSeek in float16: there vLLM lets attention and MLP rescale the residual, which needs both."""
    model = vllm_config.model_config
    if model.dtype == torch.float16 and model.hf_config.model_type.startswith("deepseek"):
        raise ValueError("a dropped DeepSeek is not served in float16: give --dtype bfloat16 or float32")


def __getattr__(name):
    return _dropped_class(name)
