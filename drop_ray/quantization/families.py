"""Which architectures the quantization engine takes, and by which methods; the tests quantize every one of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantizable:
    """methods: that give a right model; note: why the others do not."""

    methods: tuple[str, ...]
    note: str = ""


_BOTH = Quantizable(("awq", "gptq"))
_NO_NORM_BEFORE = Quantizable(("gptq",), "AWQ moves scales into the norm before a sub-layer, and there is none")

# The others have experts, which transformers keep in one tensor, and the engine would write as many linear modules.
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
}
