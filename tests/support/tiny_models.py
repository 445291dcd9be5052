"""Writes tiny random checkpoints in the real file format: grouped-query heads, and a tokenizer of the tests' own."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from drop_ray.models.classes import base_config_class, base_model_class
from drop_ray.models.families import FAMILIES

VOCAB_SIZE = 300
COMMON = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
WINDOW = {"sliding_window": 16}
MOSTLY_WINDOWED = {**WINDOW, "layer_types": ["sliding_attention", "full_attention", *["sliding_attention"] * 2]}
EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4}
DEEPSEEK = {**EXPERTS, "n_routed_experts": 4, "n_shared_experts": 2, "first_k_dense_replace": 1}
# What makes the tiny model of an architecture like the real ones of it.
TRAITS = {
    "LlamaForCausalLM": {},
    "MistralForCausalLM": {**WINDOW, "tie_word_embeddings": True},
    "Gemma2ForCausalLM": {**WINDOW, "head_dim": 16, "query_pre_attn_scalar": 16, "tie_word_embeddings": True},
    "Gemma3ForCausalLM": {
        **MOSTLY_WINDOWED,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "tie_word_embeddings": True,
    },
    "Qwen2ForCausalLM": {"tie_word_embeddings": True},
    "Qwen3ForCausalLM": {"head_dim": 16, "tie_word_embeddings": True},
    "Phi3ForCausalLM": WINDOW,
    "Olmo2ForCausalLM": {},
    "Olmo3ForCausalLM": MOSTLY_WINDOWED,
    "MixtralForCausalLM": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen3MoeForCausalLM": {**EXPERTS, "num_experts": 4, "head_dim": 16, "norm_topk_prob": True},
    "DeepseekForCausalLM": {**DEEPSEEK, "num_key_value_heads": 4},
    "DeepseekV2ForCausalLM": {
        **{**DEEPSEEK, **LATENT},
        "q_lora_rank": None,
        "topk_method": "group_limited_greedy",
        "n_group": 2,
        "topk_group": 1,
    },
    "DeepseekV3ForCausalLM": {
        **{**DEEPSEEK, **LATENT},
        "q_lora_rank": 24,
        "n_group": 2,
        "topk_group": 1,
        "num_nextn_predict_layers": 0,
    },
}
# One architecture for each way of building a decoder layer; `make test` runs these, `make test-full` the others.
REPRESENTATIVES = [
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Gemma2ForCausalLM",
    "Olmo2ForCausalLM",
    "MixtralForCausalLM",
    "DeepseekForCausalLM",
    "DeepseekV3ForCausalLM",
]
ARCHITECTURES = [name if name in REPRESENTATIVES else pytest.param(name, marks=pytest.mark.full) for name in FAMILIES]


def make_model(architecture="LlamaForCausalLM", num_layers=4, seed=0, **overrides):
    """A float32 model whose sub-layers all matter: weights larger than the library's initial ones."""
    torch.manual_seed(seed)
    traits = {**COMMON, "num_hidden_layers": num_layers, **TRAITS[architecture], **overrides}
    config = base_config_class(architecture)(**traits)
    config._attn_implementation = "eager" if FAMILIES[architecture].needs_eager else "sdpa"
    model = base_model_class(architecture)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1).add_(torch.randn_like(parameter) * 0.02)
    return model


def write_checkpoint(folder: Path, architecture="LlamaForCausalLM", shard_size="64KB", **kwargs) -> Path:
    make_model(architecture, **kwargs).save_pretrained(folder, max_shard_size=shard_size)
    make_tokenizer().save_pretrained(folder)
    (folder / "LICENSE").write_text("the licence of the base model\n")
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, so that any text has a known number of tokens; `<eos>` is 0."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<eos>": 0, "<bos>": 1, **{letter: 2 + i for i, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", bos_token="<bos>", pad_token="<eos>")


class Silenced(nn.Module):
    """Runs a module of the full model and returns its output times zero: its contribution removed, no code of ours."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        output = self.module(*args, **kwargs)
        return (output[0] * 0, *output[1:]) if isinstance(output, tuple) else output * 0


def logits_without(architecture, drops, ids):
    """Logits of the full model with the dropped modules' outputs multiplied by zero, [batch, seq_len, vocabulary]."""
    model = make_model(architecture)
    for layer in drops.attn:
        model.model.layers[layer].self_attn = Silenced(model.model.layers[layer].self_attn)
    for layer in drops.mlp:
        model.model.layers[layer].mlp = Silenced(model.model.layers[layer].mlp)
    return logits_of(model, ids)


def logits_of(model, ids):
    with torch.no_grad():
        return model(ids).logits


def modeling_files(architecture):
    """The Python files that a dropped checkpoint needs."""
    family = FAMILIES[architecture]
    return {"modeling_dropped.py", f"{family.modeling}.py", f"{family.configuration}.py"}


def edit_json(path: Path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def token_ids(num_samples, seq_len, seed=0):
    return torch.randint(2, VOCAB_SIZE - 40, (num_samples, seq_len), generator=torch.Generator().manual_seed(seed))
