"""The parts of transformers outside its public interface that drop_ray uses.

modeling_dropped.py and modeling_deepseek.py use more: they are copied into checkpoints, and so import nothing of this
package. tests/models/test_private_transformers.py checks the parts of all three, and names the version of transformers
that changed one. What costs seconds to import is imported when it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import get_layer_types_and_kwargs
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES


def config_class_name(model_type: str) -> str | None:
    """The name of the configuration class that transformers itself has for a model type.

    `AutoConfig` also gives what a program has registered. Expected of `CONFIG_MAPPING_NAMES`: class names by type.
    """
    name: str | None = CONFIG_MAPPING_NAMES.get(model_type)
    return name


def layer_types(config: PreTrainedConfig) -> list[str]:
    """How each layer attends, as `sliding_attention`: a config.json need not list it.

    Expected of `get_layer_types_and_kwargs(config)`: the types that a KV cache is made from come first.
    """
    types, _ = get_layer_types_and_kwargs(config)
    return list(types)


def attention_of(config: PreTrainedConfig) -> str | None:
    """The implementation that a model of this configuration attends with. Only a model has a public setting."""
    implementation: str | None = config._attn_implementation
    return implementation


def set_attention(config: PreTrainedConfig, implementation: str | None) -> None:
    """Expected: the classes of models read `_attn_implementation` when they are built and run."""
    config._attn_implementation = implementation


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
