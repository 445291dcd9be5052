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

# Architectures with experts are not listed: transformers keeps these in one tensor, the engine would write linears.
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
