"""Multimodal checkpoints: a language model with towers for images or sound, whose config.json has a `text_config`.

Whatever is computed is computed on the language model alone, of which `language_model.py` gives a view. An export has
the wrapper whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drop_ray.errors import UserError

TEXT = "text_config"
IMPORT = "write its language model to a folder first, and give that: drop-ray import {location} OUTPUT"


@dataclass(frozen=True)
class WrapperFamily:
    """A wrapper of transformers that the tests cover, from its scores to an image read by a dropped model."""

    model_type: str
    """The name that transformers has for it."""
    models: str
    """Models of this architecture, by the names that people know."""
    language_models: tuple[str, ...]
    """Architectures of the language models inside that are tested."""


# Keys are the `architectures` of config.json.
WRAPPERS = {
    "Gemma3ForConditionalGeneration": WrapperFamily("gemma3", "Gemma 3 4B, 12B, 27B", ("Gemma3ForCausalLM",)),
    "Gemma4ForConditionalGeneration": WrapperFamily("gemma4", "Gemma 4", ("Gemma4ForCausalLM",)),
    "Mistral3ForConditionalGeneration": WrapperFamily(
        "mistral3",
        "Mistral Small 3.1, 3.2 and 4, Ministral 3",
        ("MistralForCausalLM", "Ministral3ForCausalLM", "Mistral4ForCausalLM"),
    ),
    "Qwen2_5_VLForConditionalGeneration": WrapperFamily("qwen2_5_vl", "Qwen2.5-VL", ("Qwen2ForCausalLM",)),
    "Qwen3VLForConditionalGeneration": WrapperFamily("qwen3_vl", "Qwen3-VL", ("Qwen3ForCausalLM",)),
    "Qwen3_5ForConditionalGeneration": WrapperFamily("qwen3_5", "Qwen3.5", ("Qwen3_5ForCausalLM",)),
    "Qwen3_5MoeForConditionalGeneration": WrapperFamily(
        "qwen3_5_moe", "Qwen3.5 with experts", ("Qwen3_5MoeForCausalLM",)
    ),
    "Llama4ForConditionalGeneration": WrapperFamily("llama4", "Llama 4", ("Llama4ForCausalLM",)),
}
# Language models that transformers has no class for alone, and the type that computes the same of the same tensors: the
# three axes of their positions are one where there is no image.
EQUALS = {"qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3"}


def is_wrapper(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a language model inside a multimodal one."""
    names = config.get("architectures") or []
    return TEXT in config or any(name.endswith("ForConditionalGeneration") for name in names)


def wrapper_class(config: Mapping[str, Any]) -> str:
    """The wrapper's own class, whether it is dropped or not."""
    name: str = next(iter(config.get("architectures") or []), "multimodal model")
    return name.removeprefix("Dropped")


def language_model_class(model_type: Any) -> str | None:
    """The class of transformers for a language model alone, by the type of its `text_config`; None if it has none."""
    # Importing it takes seconds, which a program that only looks at names should not wait for.
    from drop_ray.models.transformers_private import causal_architectures, multimodal_architectures

    kind = EQUALS.get(model_type, model_type) if isinstance(model_type, str) else None
    known = {**multimodal_architectures(), **causal_architectures()}  # Mistral 4 is among the former alone
    return next((name for name, own in known.items() if own == kind and name.endswith("ForCausalLM")), None)


def check_exportable(config: Mapping[str, Any], location: str) -> None:
    """UserError, with the way to the language model alone, for a wrapper that no dropped model can be written of."""
    from drop_ray.models.transformers_private import multimodal_architectures

    name = wrapper_class(config)
    if name not in multimodal_architectures():
        raise UserError(
            f"model.path: {location} is a {name}, which transformers does not load as AutoModelForImageTextToText; "
            f"{IMPORT.format(location=location)}"
        )


def wrapper_refusal(config: Mapping[str, Any], location: str) -> UserError:
    """Why nothing can be dropped from a multimodal checkpoint that has no view of its language model."""
    return UserError(
        f"model.path: {location} is a {wrapper_class(config)}, a language model inside a multimodal one, and "
        "transformers has no class for its language model alone; give another model"
    )
