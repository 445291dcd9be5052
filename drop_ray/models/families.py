"""The architectures that sub-layers can be dropped from, and the drop lists that all other code passes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drop_ray.errors import UserError
from drop_ray.text.naming import first_twice


@dataclass(frozen=True)
class Family:
    """An architecture that drop_ray knows, and what sets it apart.

    How sub-layers are found is the same for all: `sublayer_names`.
    """

    model_type: str
    """The name that transformers has for it."""
    models: str
    """Models of this architecture, by the names that people know."""
    layers: str
    """A description of its decoder layers in a few words."""
    configuration: str = "modeling_dropped"
    """Module of drop_ray.models with the configuration class, where transformers has none."""
    modeling: str = "modeling_dropped"
    """Module of drop_ray.models with the model class, where transformers has none."""
    needs_eager: bool = False
    """Whether only the eager attention of transformers computes on every device what the model was trained with."""


# Keys are the `architectures` of config.json. The tests check every entry in the same way, on a tiny model of it.
FAMILIES = {
    "LlamaForCausalLM": Family(
        "llama",
        "Llama 2, Llama 3 to 3.3, Yi, SOLAR-10.7B; Baichuan-7B and Baichuan2-7B after `drop-ray import`",
        "norm before each sub-layer",
    ),
    "MistralForCausalLM": Family("mistral", "Mistral 7B", "norm before, sliding window"),
    "Gemma2ForCausalLM": Family(
        "gemma2", "Gemma 2", "norms before and after, soft caps, every other layer windowed", needs_eager=True
    ),
    "Gemma3ForCausalLM": Family(
        "gemma3_text", "Gemma 3, text only", "norms before and after, q/k norms, most layers windowed"
    ),
    "Qwen2ForCausalLM": Family("qwen2", "Qwen2, Qwen2.5", "norm before, biases in q, k and v"),
    "Qwen3ForCausalLM": Family("qwen3", "Qwen3", "norm before, q/k norms"),
    "Phi3ForCausalLM": Family("phi3", "Phi-3, Phi-3.5-mini, Phi-4", "norm before, fused q/k/v and gate/up"),
    "Olmo2ForCausalLM": Family("olmo2", "OLMo 2", "norm after each sub-layer, q/k norms"),
    "Olmo3ForCausalLM": Family("olmo3", "OLMo 3", "norm after each sub-layer, q/k norms, most layers windowed"),
    "MixtralForCausalLM": Family("mixtral", "Mixtral 8x7B, 8x22B", "norm before, experts"),
    "Qwen3MoeForCausalLM": Family("qwen3_moe", "Qwen3-30B-A3B, Qwen3-235B-A22B", "norm before, q/k norms, experts"),
    "DeepseekForCausalLM": Family(
        "deepseek",
        "DeepSeek-MoE 16B",
        "norm before, dense first layer, shared and routed experts",
        configuration="configuration_deepseek",
        modeling="modeling_deepseek",
    ),
    "DeepseekV2ForCausalLM": Family(
        "deepseek_v2", "DeepSeek-V2, V2-Lite", "norm before, latent attention, shared and routed experts"
    ),
    "DeepseekV3ForCausalLM": Family(
        "deepseek_v3", "DeepSeek-V3, R1 (in 16 bits)", "norm before, latent attention, shared and routed experts"
    ),
}

# Architectures that nothing can be dropped from, and what to do about it.
REMEDIES = {
    "BaichuanForCausalLM": "convert it first: drop-ray import {location} OUTPUT",
    "BaiChuanForCausalLM": "convert it first: drop-ray import {location} OUTPUT",
    "YiForCausalLM": (
        "download its current revision, which is a LlamaForCausalLM; if its tensors have Llama's names already, set "
        'architectures to ["LlamaForCausalLM"] and model_type to "llama" in config.json'
    ),
    "SolarForCausalLM": "Solar Pro is no model of transformers; SOLAR-10.7B (LlamaForCausalLM) is supported",
}


# Early conversions spell the class of Llama `LLaMAForCausalLM`.
_SPELLINGS = {name.lower(): name for name in FAMILIES}


def family_name(architecture: str) -> str:
    """The key in FAMILIES, whether the architecture is dropped or not, and however it is capitalized."""
    name = architecture.removeprefix("Dropped")
    return _SPELLINGS.get(name.lower(), name)


def base_name(config: Mapping[str, Any], source: str) -> str:
    """The base architecture that a config.json names, dropped or not.

    UserError, beginning with `source`, if it names none.
    """
    names: list[str] = [family_name(name) for name in config.get("architectures") or []]
    if not names:
        raise UserError(f"{source}: config.json names no architecture; add `architectures` to it")
    return next((name for name in names if name in FAMILIES), names[0])


def architecture_of(config: Mapping[str, Any], location: str) -> str:
    """The base architecture of a checkpoint's config.json, one of `FAMILIES` or not.

    UserError if nothing can be dropped from it.
    """
    name = base_name(config, f"model.path: {location}")
    if name in REMEDIES:
        raise UserError(f"model.path: {location} is a {name}; {REMEDIES[name].format(location=location)}")
    if "text_config" in config or name.endswith("ForConditionalGeneration"):
        raise UserError(
            f"model.path: {location} is a {name}, a language model inside a multimodal one; load its language model "
            "with transformers (such as Gemma3ForCausalLM), save_pretrained it, and give that folder"
        )
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "an unknown method")
        raise UserError(
            f"model.path: {location} is quantized already ({method}); give its 16-bit checkpoint: layers are dropped "
            "first, and quantized after"
        )
    return name


@dataclass(frozen=True)
class DropLists:
    """The layers without attention and the layers without MLP.

    They are sorted, so that equal lists are equal models.
    """

    attn: tuple[int, ...] = ()
    """Numbers of the layers whose attention is dropped."""
    mlp: tuple[int, ...] = ()
    """Numbers of the layers whose MLP is dropped."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attn", tuple(sorted(self.attn)))
        object.__setattr__(self, "mlp", tuple(sorted(self.mlp)))

    @property
    def count(self) -> int:
        """Number of dropped sub-layers, of which a block has two."""
        return len(self.attn) + len(self.mlp)

    def union(self, other: "DropLists") -> "DropLists":
        """The sub-layers that either of the two drops."""
        return DropLists(tuple({*self.attn, *other.attn}), tuple({*self.mlp, *other.mlp}))

    def as_identity(self) -> dict[str, list[int]]:
        return {"drop_attn": list(self.attn), "drop_mlp": list(self.mlp)}


def check_drop_lists(drops: DropLists, num_layers: int, source: str) -> None:
    """Raise UserError if a layer is out of range or listed twice. `source` says in the message whose lists they are."""
    for field, layers in (("drop_attn", drops.attn), ("drop_mlp", drops.mlp)):
        outside = [layer for layer in layers if not 0 <= layer < num_layers]
        if outside:
            raise UserError(
                f"{source}: {field} names layer {outside[0]}, but the model has layers 0 to {num_layers - 1}"
            )
        twice = first_twice(layers)
        if twice is not None:
            raise UserError(f"{source}: {field} names layer {twice} more than once; list every layer once")
