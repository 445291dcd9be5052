"""vLLM's models without some of their attention or MLP sub-layers: the only file that knows vLLM's internals.

`DroppedLlamaForCausalLM` and the like are made on first access from vLLM's own class, which is not copied: each layer
loses its dropped sub-layers, their weights and their KV cache as soon as it is built. vLLM's layers have the attribute
names of transformers' own, so `sublayer_names` holds for both.

A layer of vLLM hands the output of its last sub-layer on, not yet added to the residual: the next norm adds it. So what
stands in for a dropped sub-layer passes on what is pending.
"""

import copy
import functools
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from unittest import mock

import torch
import vllm
import wrapt
from torch import nn

from drop_ray.models.classes import base_config_class
from drop_ray.models.dropped import drop_lists_of_config
from drop_ray.models.families import FAMILIES, DropLists, check_drop_lists
from drop_ray.models.modeling_dropped import Nothing, drop_indices, sublayer_names
from drop_ray.serving.vllm_version import version_mismatch

if mismatch := version_mismatch(vllm.__version__):  # before the imports of what another version may not have
    raise ImportError(mismatch)

from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from vllm.model_executor.models import utils as model_utils
from vllm.model_executor.models.registry import ModelRegistry
from vllm.model_executor.models.utils import PPMissingLayer
from vllm.transformers_utils import config as vllm_configs


def install() -> None:
    """Have vLLM recognise drop lists wherever it reads a config.json, and DeepSeek-MoE, which transformers lacks."""
    wrapt.register_post_import_hook(_allow_ranks_without_attention, "vllm.v1.engine.core")
    vllm_configs._CONFIG_FORMAT_TO_CONFIG_PARSER["hf"] = DroppedConfigParser
    for architecture, family in FAMILIES.items():
        if family.model_type not in CONFIG_MAPPING:
            AutoConfig.register(family.model_type, base_config_class(architecture), exist_ok=True)


class DroppedConfigParser(vllm_configs.HFConfigParser):
    """Reads config.json as vLLM does; drop lists, in the file or in `hf_overrides`, make it a dropped model's."""

    def parse(self, model, *args, **kwargs):
        overrides = kwargs.get("hf_overrides")
        fields, config = super().parse(model, *args, **kwargs)
        _recognise(config, overrides if isinstance(overrides, dict) else {}, model)
        return fields, config


def _allow_ranks_without_attention(engine_core):
    """vLLM divides a rank's memory by the size of its blocks, which is 0 on a pipeline stage without attention."""
    get_configs = engine_core.get_kv_cache_configs
    if getattr(get_configs, "allows_ranks_without_attention", False):
        return

    @functools.wraps(get_configs)
    def get_kv_cache_configs(vllm_config, specs, memory):
        """specs: what caches each rank needs, by the attention's name; memory: bytes of each rank for them."""
        if not any(specs):
            # The model has no attention left at all; the manager of cached prefixes expects some cache.
            vllm_config.cache_config.enable_prefix_caching = False
        if all(specs) or not any(specs):
            return get_configs(vllm_config, specs, memory)
        served = [rank for rank, rank_specs in enumerate(specs) if rank_specs]
        configs = get_configs(vllm_config, [specs[rank] for rank in served], [memory[rank] for rank in served])
        groups = [replace(group, layer_names=[]) for group in configs[0].kv_cache_groups]
        # All ranks number the same blocks, those without attention keep nothing in them.
        empty = replace(configs[0], kv_cache_tensors=[], kv_cache_groups=groups)
        with_attention = iter(configs)
        return [next(with_attention) if rank_specs else copy.deepcopy(empty) for rank_specs in specs]

    get_kv_cache_configs.allows_ranks_without_attention = True
    engine_core.get_kv_cache_configs = get_kv_cache_configs


def _recognise(config, overrides, location):
    """Give a configuration that names drop lists the architecture of a dropped model, in place."""
    own = DropLists()
    if (config.model_type or "").startswith("dropped_"):
        own = drop_lists_of_config(config)
        # vLLM decides by it, such as whether attention is latent (DeepSeek). Saving takes it from the class.
        config.model_type = config.model_type.removeprefix("dropped_")
    lists = {field: overrides.get(field, getattr(config, field, None)) for field in ("drop_attn_list", "drop_mlp_list")}
    drops = DropLists(*(tuple(drop_indices(entries)) for entries in lists.values()))
    if drops.union(own) != drops:
        raise ValueError(f"{location} lacks more than hf_overrides drops: name all of {own.as_identity()} too")
    if not drops.count:
        return
    check_drop_lists(drops, config.num_hidden_layers, f"{location}: config.json")
    base = (overrides.get("architectures") or config.architectures or ["no architecture"])[0].removeprefix("Dropped")
    if base not in FAMILIES:
        raise ValueError(f"{location}: {base} has drop lists; drop_ray serves them for {', '.join(FAMILIES)}")
    config.architectures = [f"Dropped{base}"]
    if "architectures" in overrides:  # which vLLM applies after this
        overrides["architectures"] = config.architectures


class NoAttention(PPMissingLayer):
    """In place of an attention. Weight loaders of vLLM pass over the tensors of a `PPMissingLayer`."""

    def forward(self, positions, hidden_states, *_, **__):  # noqa: ARG002
        return hidden_states


class NoMlp(PPMissingLayer):
    """In place of an MLP, and of a norm after a sub-layer."""

    def forward(self, hidden_states, *_, **__):
        return hidden_states


class NoNorm(PPMissingLayer):
    """In place of the norm before a sub-layer, which would have added what is pending."""

    def forward(self, hidden_states, residual=None):
        if residual is None:  # the first in the model: its caller keeps the input as the residual
            return torch.zeros_like(hidden_states)
        return hidden_states, residual


class DroppedModel:
    """Mixed into a class that builds its layers with vLLM's `make_layers`."""

    def __init__(self, *, vllm_config, prefix="", **kwargs):
        _check_dtype(vllm_config)
        drops = drop_lists_of_config(vllm_config.model_config.hf_config)
        with _each_layer_built(lambda layer, name: _drop_from(layer, name, drops, vllm_config.compilation_config)):
            super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)

    def load_weights(self, weights):
        loaded = super().load_weights(weights)
        # vLLM remembers a model's missing layers by id(), which the next model of this process may be given.
        for module in self.modules():
            model_utils._model_to_pp_missing_layer_names.pop(id(module), None)
        return loaded


class DroppedBackendModel:
    """Mixed into vLLM's backend for models of transformers, for families that vLLM has no class of its own for."""

    @functools.cached_property
    def _from_config_kwargs(self):
        """The full model is built, on the meta device, from the family's own configuration."""
        architecture = type(self).__name__.removeprefix("Dropped")
        fields = {key: value for key, value in self.config.to_dict().items() if key not in ("model_type", "auto_map")}
        config = base_config_class(architecture)(**fields)
        config._attn_implementation = self.text_config._attn_implementation
        return {**super()._from_config_kwargs, "config": config}

    def pipeline_parallel(self):
        """Replace the dropped sub-layers. vLLM calls this first after it has built the model."""
        drops = drop_lists_of_config(self.config)
        for index, layer in enumerate(self.model.layers):
            for name in chain.from_iterable(_dropped_names(layer, index, drops)):
                setattr(layer, name, nn.Identity() if "norm" in name else Nothing(name == "self_attn"))
                self.ignore_unexpected_prefixes.append(f"model.layers.{index}.{name}.")
        super().pipeline_parallel()

    def _create_attention_instances(self, prefix=""):
        from vllm.model_executor.models.transformers import base

        def kept(start, end):
            return [index for index in range(start, end) if index in self.attention_fusers]

        # It goes through the stage's layers with `range`, and refuses one without attention.
        with mock.patch.object(base, "range", kept, create=True):
            super()._create_attention_instances(prefix)


@functools.cache
def _dropped_class(name):
    architecture = name.removeprefix("Dropped")
    if not name.startswith("Dropped") or architecture not in FAMILIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vllm.model_executor.models.transformers import TransformersForCausalLM

    base = ModelRegistry.models[architecture].load_model_cls()
    mixin = DroppedBackendModel if issubclass(base, TransformersForCausalLM) else DroppedModel
    return type(name, (mixin, base), {"__module__": __name__})


@contextmanager
def _each_layer_built(change):
    """While it is open, every layer that a model of vLLM makes goes through `change(layer, its name)`."""
    make_layers = model_utils.make_layers

    def make_changed_layers(num_hidden_layers, layer_fn, prefix):
        def changed(prefix):
            layer = layer_fn(prefix=prefix)
            change(layer, prefix)
            return layer

        return make_layers(num_hidden_layers, changed, prefix)

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("vllm.") and vars(module).get("make_layers") is make_layers:
                stack.enter_context(mock.patch.object(module, "make_layers", make_changed_layers))
        yield


def _drop_from(layer, prefix, drops, compilation_config):
    """Replace the dropped sub-layers of a layer just built, and take them out of vLLM's lists of attentions and MoEs.

    `prefix` is the layer's name, such as `model.layers.3`. Only attentions that are in the list get a KV cache.
    """
    if getattr(layer, "use_sequence_parallel_moe", False):
        raise ValueError("dropped models are not served with sequence-parallel experts: leave out expert parallelism")
    for names in _dropped_names(layer, int(prefix.rpartition(".")[2]), drops):
        for name in names:
            setattr(layer, name, NoAttention() if name == "self_attn" else NoNorm() if name == names[0] else NoMlp())
            inside = [key for key in compilation_config.static_forward_context if key.startswith(f"{prefix}.{name}.")]
            for key in inside:
                del compilation_config.static_forward_context[key]
                if key in compilation_config.static_all_moe_layers:
                    compilation_config.static_all_moe_layers.remove(key)


def _dropped_names(layer, index, drops):
    """The modules of each dropped sub-layer of a layer, in the order of `sublayer_names`."""
    names = sublayer_names(layer)
    return [names["attention"]] * (index in drops.attn) + [names["mlp"]] * (index in drops.mlp)


def _check_dtype(vllm_config):
    """Refuse DeepSeek in float16, where vLLM has attention and MLP rescale the residual: both must be there."""
    model = vllm_config.model_config
    if model.dtype == torch.float16 and model.hf_config.model_type.startswith("deepseek"):
        raise ValueError("a dropped DeepSeek is not served in float16: give --dtype bfloat16 or float32")


def __getattr__(name):
    return _dropped_class(name)
