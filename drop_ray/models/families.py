"""The architectures that sub-layers can be dropped from, and the drop lists that all other code passes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drop_ray.errors import UserError
from drop_ray.models.quantized_base.kinds import quantized_kind
from drop_ray.models.wrappers import is_wrapper, wrapper_refusal
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
    is_served: bool = True
    """Whether its dropped models are served and evaluated by vLLM: tests compare every one with transformers."""
    has_middle: bool = True
    """Whether in every layer the MLP, or the norm before it, receives the residual state after the mixer."""
    returned_values: Mapping[str, int] = field(default_factory=dict)
    """By class, how many values modules return where not as most do: 2 if called `self_attn`, else 0, a tensor."""


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
    "Glm4ForCausalLM": Family("glm4", "GLM-4-0414, GLM-Z1", "norms before and after each sub-layer"),
    "Glm4MoeForCausalLM": Family(
        "glm4_moe", "GLM-4.5, 4.6, 4.7", "norm before, dense first layers, shared and routed experts"
    ),
    "SmolLM3ForCausalLM": Family("smollm3", "SmolLM3", "norm before, every fourth layer without positions"),
    "GraniteForCausalLM": Family("granite", "Granite 3", "norm before, scaled contributions"),
    "GraniteMoeForCausalLM": Family("granitemoe", "Granite 3 MoE", "norm before, scaled contributions, experts"),
    "SeedOssForCausalLM": Family("seed_oss", "Seed-OSS", "norm before, biases in q, k and v"),
    "Exaone4ForCausalLM": Family("exaone4", "EXAONE 4", "norm after each sub-layer, q/k norms, most layers windowed"),
    "HunYuanDenseV1ForCausalLM": Family("hunyuan_v1_dense", "Hunyuan dense", "norm before, q/k norms"),
    "Ernie4_5ForCausalLM": Family("ernie4_5", "ERNIE 4.5 dense", "norm before"),
    "MiniMaxM2ForCausalLM": Family("minimax_m2", "MiniMax M2", "norm before, q/k norms, experts"),
    "Ministral3ForCausalLM": Family("ministral3", "Ministral 3, its text model", "norm before"),
    "GptOssForCausalLM": Family(
        "gpt_oss",
        "gpt-oss",
        "norm before, attention sinks, every other layer windowed, experts",
        needs_eager=True,
        returned_values={"GptOssMLP": 2},
    ),
    "CohereForCausalLM": Family(
        "cohere", "Command R", "attention and MLP side by side behind one norm", has_middle=False
    ),
    "Cohere2ForCausalLM": Family(
        "cohere2",
        "Command R7B, Command A",
        "side by side behind one norm, most layers windowed",
        has_middle=False,
    ),
    "PhiForCausalLM": Family(
        "phi", "Phi-1.5, Phi-2", "attention and MLP side by side behind one norm", has_middle=False
    ),
    "GPTNeoXForCausalLM": Family(
        "gpt_neox",
        "Pythia, GPT-NeoX-20B",
        "attention and MLP side by side, each behind its norm",
        has_middle=False,
        returned_values={"GPTNeoXAttention": 2},
    ),
    "Ernie4_5_MoeForCausalLM": Family(
        "ernie4_5_moe", "ERNIE 4.5 MoE", "norm before, dense first layer, shared and routed experts", is_served=False
    ),
    "ApertusForCausalLM": Family("apertus", "Apertus", "norm before, q/k norms"),
    "AfmoeForCausalLM": Family(
        "afmoe",
        "Trinity (AfMoE)",
        "norms before and after, gated attention, most layers windowed, experts",
    ),
    "Qwen3NextForCausalLM": Family(
        "qwen3_next", "Qwen3-Next", "norm before, most mixers are linear attention, shared and routed experts"
    ),
    "Qwen3_5ForCausalLM": Family(
        "qwen3_5_text", "Qwen3.5, its text model", "norm before, most mixers are linear attention", is_served=False
    ),
    "GraniteMoeHybridForCausalLM": Family(
        "granitemoehybrid", "Granite 4", "norm before, most mixers are Mamba 2, shared and routed experts"
    ),
    "OlmoHybridForCausalLM": Family(
        "olmo_hybrid",
        "OLMo Hybrid",
        "most mixers are linear attention with norms before, the others have norms after",
        is_served=False,
    ),
    "Lfm2ForCausalLM": Family("lfm2", "LFM2", "norm before, most mixers are short convolutions"),
    "JambaForCausalLM": Family("jamba", "Jamba", "norm before, most mixers are Mamba, experts in every other layer"),
    "FalconH1ForCausalLM": Family(
        "falcon_h1",
        "Falcon-H1",
        "norm before, attention and Mamba 2 side by side are one mixer",
        returned_values={"FalconH1DecoderLayer": 1},
    ),
    "NemotronHForCausalLM": Family(
        "nemotron_h",
        "Nemotron-H, Nemotron 3",
        "each layer is one sub-layer: Mamba 2, attention, MLP or experts",
        has_middle=False,
        returned_values={"NemotronHAttention": 2},
    ),
    "KimiLinearForCausalLM": Family(
        "kimi_linear",
        "Kimi Linear",
        "norm before, most mixers are linear attention, the others latent, shared and routed experts",
        returned_values={"KimiLinearDeltaAttention": 0},
        is_served=False,
    ),
    "Qwen3_5MoeForCausalLM": Family(
        "qwen3_5_moe_text",
        "Qwen3.5 MoE, its text model",
        "norm before, most mixers are linear attention, shared and routed experts",
        is_served=False,
    ),
    "Lfm2MoeForCausalLM": Family("lfm2_moe", "LFM2 MoE", "norm before, most mixers are short convolutions, experts"),
    "Gemma4ForCausalLM": Family(
        "gemma4_text",
        "Gemma 4, its text model",
        "norms before and after, most layers windowed, the last ones share keys and values, per-layer embeddings",
        has_middle=False,
        is_served=False,
    ),
    "Llama4ForCausalLM": Family(
        "llama4_text",
        "Llama 4, its text model",
        "norm before, most layers chunked, shared and routed experts",
        returned_values={"Llama4TextMoe": 2},
        is_served=False,
    ),
    "HunYuanMoEV1ForCausalLM": Family(
        "hunyuan_v1_moe", "Hunyuan-A13B", "norm before, q/k norms, shared and routed experts"
    ),
    "HYV3ForCausalLM": Family("hy_v3", "HY V3", "norm before, q/k norms, dense first layer, shared and routed experts"),
    "GPT2LMHeadModel": Family(
        "gpt2",
        "GPT-2",
        "norm before, learned positions",
        returned_values={"GPT2Attention": 2},
    ),
    "PhimoeForCausalLM": Family("phimoe", "Phi-3.5-MoE", "norm before, sliding window, experts", is_served=False),
    "Qwen2MoeForCausalLM": Family("qwen2_moe", "Qwen1.5-MoE, Qwen2-57B-A14B", "norm before, shared and routed experts"),
    "OlmoeForCausalLM": Family("olmoe", "OLMoE", "norm before, q/k norms, experts"),
    "Glm4MoeLiteForCausalLM": Family(
        "glm4_moe_lite",
        "GLM-4.7-Flash",
        "norm before, latent attention, dense first layer, shared and routed experts",
    ),
    "ExaoneMoeForCausalLM": Family("exaone_moe", "K-EXAONE", "norm before, q/k norms, most layers windowed, experts"),
    "MiMoV2FlashForCausalLM": Family(
        "mimo_v2_flash",
        "MiMo-V2-Flash",
        "norm before, attention sinks, most layers windowed, experts",
        needs_eager=True,
    ),
    "StableLmForCausalLM": Family("stablelm", "StableLM 2", "norm before"),
    "Starcoder2ForCausalLM": Family("starcoder2", "StarCoder2", "norm before, sliding window"),
    "NemotronForCausalLM": Family("nemotron", "Nemotron-4, Minitron", "norm before"),
}


def is_refused_by_vllm(architecture: str) -> bool:
    """Whether dropped models of a listed family are known not to be served. Of others, vLLM and the gate will tell."""
    return architecture in FAMILIES and not FAMILIES[architecture].is_served


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
    if is_wrapper(config):  # whose language model is none that transformers has: `as_language_model`
        raise wrapper_refusal(config, location)
    quantized_kind(config, location)
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
    for name, layers in (("drop_attn", drops.attn), ("drop_mlp", drops.mlp)):
        outside = [layer for layer in layers if not 0 <= layer < num_layers]
        if outside:
            raise UserError(
                f"{source}: {name} names layer {outside[0]}, but the model has layers 0 to {num_layers - 1}"
            )
        twice = first_twice(layers)
        if twice is not None:
            raise UserError(f"{source}: {name} names layer {twice} more than once; list every layer once")
