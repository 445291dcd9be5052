"""The parts of vLLM outside its public interface that drop_ray uses or changes.

vllm_models.py builds dropped models with them, vllm_engine.py measures engines. With a version of vLLM that this module
was not written for, importing it fails. tests/serving/test_private_vllm.py checks every part, and names the version of
vLLM that changed one.
"""

import copy
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import vllm
import wrapt
from torch import nn

from drop_ray.replacing import replaced
from drop_ray.serving.vllm_version import version_mismatch

if mismatch := version_mismatch(vllm.__version__):  # before imports that another version may not have
    raise ImportError(mismatch)

from vllm.model_executor.models import utils as model_utils

# Weight loaders of vLLM skip the tensors of modules of this class, and of no other class without parameters.
from vllm.model_executor.models.utils import PPMissingLayer as MissingLayer

# vLLM's reader of config.json, `parse(model, ..., hf_overrides)`: the parser that replaces it derives from it.
from vllm.transformers_utils.config import HFConfigParser as ConfigParser

__all__ = ["ConfigParser", "MissingLayer"]


# The names that configurations have for the number of experts, as vLLM knows them.
NUM_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")


def model_class(architecture: str, config: Any) -> type[nn.Module]:
    """vLLM's own class of an architecture, which the registry gives to the engine only; else that of its backend.

    config: one of the architecture, which tells whether it has experts. Expected of `ModelRegistry.models`: entries by
    architecture, whose `load_model_cls()` imports the class.
    """
    known = vllm.ModelRegistry.models
    has_experts = any(getattr(config, name, None) for name in NUM_EXPERTS)
    backend = "TransformersMoEForCausalLM" if has_experts else "TransformersForCausalLM"
    made: type[nn.Module] = known[architecture if architecture in known else backend].load_model_cls()
    return made


def is_of_backend(model: type[nn.Module]) -> bool:
    """Whether a class belongs to vLLM's backend for transformers models, which runs the code of transformers."""
    from vllm.model_executor.models.transformers.base import Base

    return issubclass(model, Base)


def share_settings(architecture: str, dropped: str) -> None:
    """Have vLLM adjust its settings for a dropped model as for the full one.

    Expected of `MODELS_CONFIG_MAP`: what adjusts them, by the architectures that need it.
    """
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    if architecture in MODELS_CONFIG_MAP:
        MODELS_CONFIG_MAP[dropped] = MODELS_CONFIG_MAP[architecture]


def returns_pair(module: nn.Module) -> bool:
    """Whether a module returns its output and a bias: vLLM's linear modules do, unless their `return_bias` is off."""
    return bool(getattr(module, "return_bias", False))


class BackendHooks:
    """Mixin for a class of that backend, which has neither hook itself.

    Expected of `_from_config_kwargs`: the arguments of `AutoModel.from_config`, which builds the model. Expected of
    `_create_attention_instances(prefix)`: it goes through the layers of this pipeline stage with `range`, and refuses a
    layer that is not in `attention_fusers`, a mapping by the number of each layer with attention.
    """

    def full_config(self) -> Any:
        """The transformers configuration that the model is built from."""
        raise NotImplementedError

    @functools.cached_property
    def _from_config_kwargs(self) -> dict[str, Any]:
        return {**super()._from_config_kwargs, "config": self.full_config()}  # type: ignore[misc]

    def _create_attention_instances(self, prefix: str = "") -> None:
        from vllm.model_executor.models.transformers import base

        def with_attention(start: int, end: int) -> list[int]:
            return [index for index in range(start, end) if index in self.attention_fusers]  # type: ignore[attr-defined]

        with replaced(base, "range", with_attention, adds=True):
            super()._create_attention_instances(prefix)  # type: ignore[misc]


@contextmanager
def each_layer_built(change: Callable[[nn.Module, str], None]) -> Iterator[None]:
    """While this context is open, `change(layer, its name)` is called for every layer right after vLLM has built it.

    vLLM has no hook between a layer and the weights of the next one.

    Expected of `make_layers(number, layer_fn, prefix)`: models with a class of their own build their layers with it,
    under that name in their module.
    """
    make_layers = model_utils.make_layers

    def make_changed_layers(num_hidden_layers: int, layer_fn: Callable[..., nn.Module], prefix: str) -> Any:
        def changed(prefix: str) -> nn.Module:
            layer = layer_fn(prefix=prefix)
            change(layer, prefix)
            return layer

        return make_layers(num_hidden_layers, changed, prefix)

    with ExitStack() as stack:
        for module in _modules_with(make_layers):
            stack.enter_context(replaced(module, "make_layers", make_changed_layers))
        try:
            yield
        finally:  # a wrapper imports its language model only when it builds it
            for module in _modules_with(make_changed_layers):
                vars(module)["make_layers"] = make_layers


def _modules_with(make_layers: Callable[..., Any]) -> list[ModuleType]:
    """The modules of vLLM that have this function as `make_layers`."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("vllm.")]
    return [module for module in modules if vars(module).get("make_layers") is make_layers]


def forget_attention(compilation_config: Any, gone: nn.Module) -> None:
    """Remove what is inside a module from vLLM's lists of attentions, which get a KV cache, and of experts.

    Expected: a module that is built enters itself into `static_forward_context`, under a name that is not always its
    own, and one with experts that name also into `static_all_moe_layers`.
    """
    parts = set(gone.modules())
    for key in [key for key, part in compilation_config.static_forward_context.items() if part in parts]:
        del compilation_config.static_forward_context[key]
        if key in compilation_config.static_all_moe_layers:
            compilation_config.static_all_moe_layers.remove(key)


def forget_experts(layer: nn.Module) -> None:
    """Have a layer whose MLP is gone say that it has no experts: once all layers are built, models make lists of them.

    Expected: layers of AfMoE say it by `moe_enabled`, those of HY V3 by a `block_type` of "moe", and neither reads it
    while it runs. Other models go by the class of `mlp`.
    """
    if hasattr(layer, "moe_enabled"):
        vars(layer)["moe_enabled"] = False
    if getattr(layer, "block_type", None) == "moe":
        vars(layer)["block_type"] = "mlp"


def forget_states(vllm_config: Any) -> None:
    """Have vLLM keep no states of linear attention for a hybrid that has none left.

    Expected: such a mixer is a `MambaBase`, and with a `mamba_cache_mode` of "none" nobody asks for their states.
    """
    from vllm.model_executor.layers.mamba.abstract import MambaBase

    mixers = vllm_config.compilation_config.static_forward_context.values()
    if not any(isinstance(mixer, MambaBase) for mixer in mixers):
        vllm_config.cache_config.mamba_cache_mode = "none"


def relates_tokens(module: nn.Module) -> bool:
    """Whether there is an attention, or what has its place, in a module. Expected: it is an `AttentionLayerBase`."""
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

    return any(isinstance(part, AttentionLayerBase) for part in module.modules())


def is_sequence_parallel(layer: nn.Module) -> bool:
    """Whether a layer divides the tokens among the ranks of its experts from before its attention until after its MLP.

    Expected: layers that do so say it by an attribute: DeepSeek's by the first, those of Qwen3-Next by the second.
    """
    return any(getattr(layer, name, False) for name in ("use_sequence_parallel_moe", "use_attn_reduce_scatter_for_moe"))


def of_present_layers(model: nn.Module, weights: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The tensors that a model has modules for: not every model's own loader passes over the others (Granite 4)."""
    return (entry for entry in weights if not model_utils.is_pp_missing_parameter(entry[0], model))


def forget_missing_layers(model: nn.Module) -> None:
    """Forget a model's missing layers. vLLM keeps them by id(), which a module of a later model may have again.

    Expected of `_model_to_pp_missing_layer_names`: lists of names by the id of a module, filled while weights load.
    """
    for module in model.modules():
        model_utils._model_to_pp_missing_layer_names.pop(id(module), None)


def allow_ranks_without_attention() -> None:
    """Allow pipeline stages without attention, where vLLM would divide a rank's memory by a block size of 0.

    Expected of `get_kv_cache_configs(vllm_config, specs, memory)`: it returns one configuration for each rank, all with
    the same number of blocks, and `vllm.v1.engine.core` calls it as a name of its own module.
    """
    wrapt.register_post_import_hook(_allow_ranks_without_attention, "vllm.v1.engine.core")


def _allow_ranks_without_attention(engine_core: Any) -> None:
    get_configs = engine_core.get_kv_cache_configs
    if getattr(get_configs, "allows_ranks_without_attention", False):
        return

    @functools.wraps(get_configs)
    def get_kv_cache_configs(vllm_config: Any, specs: list[Any], memory: list[int]) -> list[Any]:
        """specs: the caches that each rank needs, by the attention's name; memory: bytes of each rank for them."""
        if not any(specs):
            # The model has no attention left at all; the manager of cached prefixes expects some cache.
            vllm_config.cache_config.enable_prefix_caching = False
        if all(specs) or not any(specs):
            return list(get_configs(vllm_config, specs, memory))
        served = [rank for rank, rank_specs in enumerate(specs) if rank_specs]
        configs = get_configs(vllm_config, [specs[rank] for rank in served], [memory[rank] for rank in served])
        groups = [replace(group, layer_names=[]) for group in configs[0].kv_cache_groups]
        # All ranks number the same blocks; ranks without attention keep nothing in them.
        empty = replace(configs[0], kv_cache_tensors=[], kv_cache_groups=groups)
        with_attention = iter(configs)
        return [next(with_attention) if rank_specs else copy.deepcopy(empty) for rank_specs in specs]

    get_kv_cache_configs.allows_ranks_without_attention = True  # type: ignore[attr-defined]
    engine_core.get_kv_cache_configs = get_kv_cache_configs


def cache_config(llm: Any) -> Any:
    """The cache configuration of an `LLM`, which has no public one.

    Expected once the engine is made: `num_gpu_blocks`; `block_size` in tokens; and `kv_cache_size_tokens`, the tokens
    that the blocks hold at the largest length of requests.
    """
    return llm.llm_engine.vllm_config.cache_config


def kv_cache_specs(worker: Any) -> Mapping[str, Any]:
    """The cache of each attention of a worker, by the attention's name. `LLM.collective_rpc` passes the worker.

    Mixers with states of one size are left out. Expected: attentions have an `AttentionSpec`, and `page_size_bytes`,
    the bytes of a block of `block_size` tokens.
    """
    from vllm.v1.kv_cache_interface import AttentionSpec

    specs: Mapping[str, Any] = worker.get_kv_cache_spec()
    return {name: spec for name, spec in specs.items() if isinstance(spec, AttentionSpec)}


def draft_model(worker: Any) -> nn.Module | None:
    """The draft model of a worker, which has weights and a KV cache of its own; None without one.

    Expected of `model_runner.drafter.model`: the model that a runner with a draft model has loaded.
    """
    drafter = getattr(worker.model_runner, "drafter", None)
    found: nn.Module | None = getattr(drafter, "model", None)
    return found


def is_of_draft(attention: str) -> bool:
    """Whether an attention of that name belongs to the draft model.

    Expected of `DraftModelProposer._get_model`: it builds the draft under this prefix.
    """
    return attention.startswith("draft_model.")


def num_kv_cache_groups(worker: Any) -> int:
    """Number of groups of layers that share the blocks; 1 if all layers have windows of one width, or no windows."""
    return len(worker.model_runner.kv_cache_config.kv_cache_groups)


def num_weights(linear: Any, parameter: nn.Parameter) -> int:
    """Number of values in the weight of a module.

    On a CPU, vLLM hands the weights of linear modules to its kernels and leaves empty parameters in their place.
    Expected then: `input_size_per_partition` and `output_size_per_partition`.
    """
    count = parameter.numel()
    if not count and hasattr(linear, "input_size_per_partition"):
        count = linear.input_size_per_partition * linear.output_size_per_partition
    return count
