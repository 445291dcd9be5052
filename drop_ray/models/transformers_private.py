"""The parts of transformers outside its public interface that drop_ray uses.

modeling_dropped.py and modeling_deepseek.py use more: they are copied into checkpoints, and so import nothing of this
package. tests/models/test_private_transformers.py checks the parts of all three, and names the version of transformers
that changed one. What costs seconds to import is imported when it is used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES


def config_class_name(model_type: str) -> str | None:
    """The name of the configuration class that transformers itself has for a model type.

    `AutoConfig` also gives what a program has registered. Expected of `CONFIG_MAPPING_NAMES`: class names by type.
    """
    name: str | None = CONFIG_MAPPING_NAMES.get(model_type)
    return name


def causal_architectures() -> dict[str, str]:
    """The class of each causal language model that transformers has, with its model type.

    Expected of `MODEL_FOR_CAUSAL_LM_MAPPING_NAMES`: class names by type. It loads no model.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return {name: kind for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items() if isinstance(name, str)}


def multimodal_architectures() -> dict[str, str]:
    """The class of each model that reads images and text, with its model type.

    Expected of `MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES`: class names by type. It loads no model.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return {name: kind for kind, name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.items() if isinstance(name, str)}


class _ByNeed(dict[str, Any]):
    """Configuration classes by model type, of which some are made when they are asked for."""

    def __init__(self, known: Mapping[str, Any], find: Callable[[str], Any]):
        super().__init__(known)
        self._find = find

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (isinstance(key, str) and self._find(key) is not None)

    def __missing__(self, key: str) -> Any:
        found = self._find(key)
        if found is None:
            raise KeyError(key)
        return found


def find_configurations(find: Callable[[str], Any]) -> None:
    """Have `AutoConfig` ask `find` for the class of a model type that nobody registered; None if there is none.

    `AutoConfig.register` takes the class itself, and importing those of all families takes seconds. Expected of
    `CONFIG_MAPPING`: `_extra_content`, a dict in which what programs register is looked up.
    """
    CONFIG_MAPPING._extra_content = _ByNeed(CONFIG_MAPPING._extra_content, find)


def layer_types(config: PreTrainedConfig) -> list[str]:
    """How each layer attends, as `sliding_attention`: a config.json need not list it.

    Expected of `get_layer_types_and_kwargs(config)`: the types that a KV cache is made from come first.
    """
    types, _ = get_layer_types_and_kwargs(config)
    return list(types)


def all_layer_types(config: PreTrainedConfig) -> list[str]:
    """As `layer_types`, with the last layers that read the keys and values of earlier ones (Gemma 3n, Gemma 4).

    Expected of `num_kv_shared_layers`: that only those are missing, and that `layer_types` of the config names them.
    """
    types = layer_types(config)
    shared: int = getattr(config, "num_kv_shared_layers", None) or 0
    return [*types, *list(config.layer_types)[-shared:]] if shared else types


def with_floats(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config.json in which transformers wrote infinity as `{"__float__": "Infinity"}`, as numbers.

    Expected of `_decode_special_floats(fields)`: just that, at any depth.
    """
    decoded: dict[str, Any] = PreTrainedConfig._decode_special_floats(dict(fields))
    return decoded


def without_floats(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `with_floats`: what no JSON has a number for, written as transformers does.

    Expected of `_encode_special_floats(fields)`.
    """
    encoded: dict[str, Any] = PreTrainedConfig._encode_special_floats(dict(fields))
    return encoded


def attention_of(config: PreTrainedConfig) -> str | None:
    """The implementation that a model of this configuration attends with. Only a model has a public setting."""
    implementation: str | None = config._attn_implementation
    return implementation


def set_attention(config: PreTrainedConfig, implementation: str | None) -> None:
    """Expected: the classes of models read `_attn_implementation` when they are built and run."""
    config._attn_implementation = implementation


def supports_sdpa(model_class: Any) -> bool:
    """Whether a class of models attends by `scaled_dot_product_attention`. Expected of its `_supports_sdpa`."""
    return bool(model_class._supports_sdpa)


def model_of(model_class: Any, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A model of that very class. `AutoModelForCausalLM.from_config` finds its class by the configuration.

    Expected of `_from_config(config, dtype=...)`: parameters of that dtype, in the devices' context of the caller.
    """
    model: PreTrainedModel = model_class._from_config(config, dtype=dtype)
    return model


def kept_dtypes(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """What `from_pretrained` loads in another dtype than the one asked for; nothing public says it.

    Expected of `_get_dtype_plan(dtype)`: dtypes by the names of tensors, such as `e_score_correction_bias`.
    """
    plan: dict[str, torch.dtype] = model._get_dtype_plan(dtype)
    return plan


@dataclass(frozen=True)
class Conversions:
    """How the names and forms of a checkpoint's tensors become those of a model; made by `conversions_of`.

    There is no public way but `from_pretrained`, which reads the whole model.
    """

    renamings: list[Any]
    """Each a `WeightRenaming`: another name for a tensor."""
    # A copy takes tensors by `add_tensor(target, name, pattern, tensor)`, and `convert(target, model=..., config=...)`
    # gives the model's by name.
    converters: list[Any]
    """Each a `WeightConverter`, with `source_patterns` and `target_patterns`."""

    def rename(self, name: str, base_model_prefix: str, expected: Mapping[str, Any]) -> tuple[str, str | None]:
        """A tensor's name in the model, and the pattern of the converter that it goes through, if any.

        expected: the model's tensors by name. Expected of `rename_source_key`: that it renames, then adds or takes the
        prefix so that the name is one of `expected`.
        """
        from transformers.core_model_loading import rename_source_key

        target, pattern = rename_source_key(name, self.renamings, self.converters, base_model_prefix, expected)
        return target, pattern


def conversions_of(model: PreTrainedModel) -> Conversions:
    """Expected of `get_model_conversion_mapping(model)`: renamings and converters, in the order of their use."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming

    entries = get_model_conversion_mapping(model)
    return Conversions(
        [entry for entry in entries if isinstance(entry, WeightRenaming)],
        [entry for entry in entries if isinstance(entry, WeightConverter)],
    )


def natural_order(name: str) -> Any:
    """The sort key in whose order transformers stacks tensors: numbers in a name by their value.

    Expected of `dot_natural_key(name)`: just that; it is written nowhere else.
    """
    from transformers.core_model_loading import dot_natural_key

    return dot_natural_key(name)


def merges_of(vocabulary: Mapping[str, int], scores: Mapping[str, float], skipped: set[str]) -> list[tuple[str, str]]:
    """The merges of a sentencepiece BPE model, which has scores in their place: what transformers' own converter of
    tokenizers makes, and makes public only for the families it knows.

    Expected of `generate_merges(vocabulary, scores, skip_tokens)`: pairs of pieces, the highest score first.
    """
    from transformers.convert_slow_tokenizer import generate_merges

    merges: list[tuple[str, str]] = generate_merges(vocabulary, scores, skip_tokens=skipped)
    return merges
