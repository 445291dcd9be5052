"""Which architectures the quantization engine takes, and by which methods. The tests quantize every one of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantizable:
    """How an architecture can be quantized."""

    methods: tuple[str, ...]
    """Methods that give a right model."""
    note: str = ""
    """Why the other methods do not."""


_BOTH = Quantizable(("awq", "gptq"))
_NO_NORM_BEFORE = Quantizable(("gptq",), "AWQ moves scales into the norm before a sub-layer, and there is none")

WITH_EXPERTS = Quantizable(
    ("gptq",), "gptqmodel 7.6 scales the norm before the experts, and leaves the router behind it as it is"
)

QUANTIZABLE = {
    "LlamaForCausalLM": _BOTH,
    "MistralForCausalLM": _BOTH,
    "Gemma2ForCausalLM": _BOTH,
    "Gemma3ForCausalLM": Quantizable(
        ("gptq",), "gptqmodel 7.6 scales its norms as if their factor were `weight`, not `1 + weight`"
    ),
    "Qwen2ForCausalLM": _BOTH,
    "Qwen3ForCausalLM": _BOTH,
    "Phi3ForCausalLM": _BOTH,
    "Olmo2ForCausalLM": _NO_NORM_BEFORE,
    "Olmo3ForCausalLM": _NO_NORM_BEFORE,
    "MixtralForCausalLM": WITH_EXPERTS,
    "Qwen3MoeForCausalLM": WITH_EXPERTS,
    "DeepseekV2ForCausalLM": WITH_EXPERTS,
    "DeepseekV3ForCausalLM": WITH_EXPERTS,
    "Glm4MoeForCausalLM": WITH_EXPERTS,
}
# Why others are not.
REFUSED = {
    "GptOssForCausalLM": "its files hold the experts of a layer as one tensor, in which nothing can be packed",
    "DeepseekForCausalLM": "gptqmodel 7.6 has no tree of its modules",
}
