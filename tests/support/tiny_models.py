"""Writes tiny random checkpoints in the real file format: grouped-query heads, and a tokenizer of the tests' own."""

import functools
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from drop_ray.models.candidates import candidates
from drop_ray.models.classes import base_config_class, base_model_class
from drop_ray.models.families import FAMILIES
from drop_ray.models.sublayers import find_layers, is_norm, sublayer_names

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
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
TRAITS |= {
    "Glm4ForCausalLM": {"head_dim": 16},
    "Glm4MoeForCausalLM": {
        **EXPERTS,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "head_dim": 16,
        "use_qk_norm": True,
    },
    "SmolLM3ForCausalLM": {"tie_word_embeddings": True},
    "GraniteForCausalLM": {"residual_multiplier": 0.5, "tie_word_embeddings": True},
    "GraniteMoeForCausalLM": {"num_local_experts": 4, "num_experts_per_tok": 2, "residual_multiplier": 0.5},
    "SeedOssForCausalLM": {"head_dim": 16},
    "Exaone4ForCausalLM": {**WINDOW, "sliding_window_pattern": 2, "tie_word_embeddings": True},
    "HunYuanDenseV1ForCausalLM": {"head_dim": 16, "tie_word_embeddings": True},
    "Ernie4_5ForCausalLM": {"head_dim": 16, "tie_word_embeddings": True},
    "Ernie4_5_MoeForCausalLM": {
        "moe_intermediate_size": 16,
        "moe_k": 2,
        "moe_num_experts": 4,
        "moe_num_shared_experts": 1,
        "moe_layer_start_index": 1,
        "moe_layer_end_index": 3,
    },
    "MiniMaxM2ForCausalLM": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16},
    "Ministral3ForCausalLM": {"head_dim": 16},
    "ApertusForCausalLM": {},
    "AfmoeForCausalLM": {
        **EXPERTS,
        **WINDOW,
        "num_experts": 4,
        "num_shared_experts": 1,
        "num_dense_layers": 1,
        "head_dim": 16,
        "global_attn_every_n_layers": 2,
    },
    "GptOssForCausalLM": {**WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16},
    "CohereForCausalLM": {"tie_word_embeddings": True},
    "Cohere2ForCausalLM": {**WINDOW, "sliding_window_pattern": 2, "tie_word_embeddings": True},
    "PhiForCausalLM": {},
    "GemmaForCausalLM": {"head_dim": 16, "tie_word_embeddings": True},
    "GPTNeoXForCausalLM": {},
    "Qwen3NextForCausalLM": {
        **EXPERTS,
        **LINEAR,
        "num_experts": 4,
        "shared_expert_intermediate_size": 16,
        "head_dim": 16,
    },
    "Qwen3_5ForCausalLM": {**LINEAR, "head_dim": 16},
    "GraniteMoeHybridForCausalLM": {
        **MAMBA2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 32,
        "layer_types": LINEAR["layer_types"],
        "residual_multiplier": 0.5,
    },
    "OlmoHybridForCausalLM": LINEAR,
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
    "JambaForCausalLM": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 8,
    },
    "FalconH1ForCausalLM": {**MAMBA2, "mamba_d_ssm": 64},
    "NemotronHForCausalLM": {
        "layers_block_type": ["linear_attention", "mlp", "full_attention", "moe"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 16,
        "head_dim": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
    },
}
MLA_EXPERTS = {**DEEPSEEK, **LATENT, "q_lora_rank": 24, "n_group": 1, "topk_group": 1}
TRAITS |= {
    "GPT2LMHeadModel": {"num_key_value_heads": None, "tie_word_embeddings": True},
    "PhimoeForCausalLM": {**WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen2MoeForCausalLM": {**EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 16},
    "OlmoeForCausalLM": {"num_experts": 4, "num_experts_per_tok": 2},
    "Glm4MoeLiteForCausalLM": MLA_EXPERTS,
    "Lfm2MoeForCausalLM": {
        **EXPERTS,
        "layer_types": ["conv", "full_attention"] * 2,
        "num_experts": 4,
        "num_dense_layers": 1,
        "tie_word_embeddings": True,
    },
    "Qwen3_5MoeForCausalLM": {
        **EXPERTS,
        **LINEAR,
        "num_experts": 4,
        "shared_expert_intermediate_size": 16,
        "head_dim": 16,
    },
    "KimiLinearForCausalLM": {
        **EXPERTS,
        **LATENT,
        "layer_types": LINEAR["layer_types"],
        "linear_head_dim": 8,
        "linear_num_heads": 4,
        "num_local_experts": 4,
        "n_shared_experts": 1,
    },
    "HunYuanMoEV1ForCausalLM": {"head_dim": 16, "num_experts": 8, "moe_topk": 2, "tie_word_embeddings": True},
    "HYV3ForCausalLM": {**EXPERTS, "num_experts": 4, "num_shared_experts": 1, "head_dim": 16},
    "Llama4ForCausalLM": {
        "intermediate_size_mlp": 64,
        "num_local_experts": 4,
        "head_dim": 16,
        "interleave_moe_layer_step": 2,
        "attention_chunk_size": 16,
        "no_rope_layers": [1, 1, 0, 1],
    },
    "Gemma4ForCausalLM": {
        **WINDOW,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "head_dim": 16,
        "global_head_dim": 32,
        "num_kv_shared_layers": 1,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCAB_SIZE,
        "tie_word_embeddings": True,
    },
    "ExaoneMoeForCausalLM": {**EXPERTS, **WINDOW, "sliding_window_pattern": 2, "num_experts": 4, "head_dim": 16},
    "MiMoV2FlashForCausalLM": {
        **EXPERTS,
        **WINDOW,
        "n_routed_experts": 4,
        "head_dim": 16,
        "v_head_dim": 8,
        "layer_types": MOSTLY_WINDOWED["layer_types"],
    },
    "StableLmForCausalLM": {},
    "Starcoder2ForCausalLM": {**WINDOW, "tie_word_embeddings": True},
    "NemotronForCausalLM": {"head_dim": 8},
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
    "Cohere2ForCausalLM",
]
ARCHITECTURES = [name if name in REPRESENTATIVES else pytest.param(name, marks=pytest.mark.full) for name in FAMILIES]


def make_model(architecture="LlamaForCausalLM", num_layers=4, seed=0, **overrides):
    """A float32 model whose sub-layers all matter: weights larger than the library's initial ones."""
    torch.manual_seed(seed)
    traits = {**COMMON, "num_hidden_layers": num_layers, **TRAITS[architecture], **overrides}
    config = base_config_class(architecture)(**traits)
    config._attn_implementation = "eager" if architecture in FAMILIES and FAMILIES[architecture].needs_eager else "sdpa"
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


@functools.cache
def droppable(architecture):
    """What can be dropped from the tiny model of an architecture: not every layer has both, and some are needed."""
    return candidates(make_model(architecture))


def logits_without(architecture, drops, ids):
    """Logits of the full model with the dropped modules' outputs multiplied by zero, [batch, seq_len, vocabulary]."""
    model = make_model(architecture)
    layers = find_layers(model)
    for kind, indices in (("attention", drops.attn), ("mlp", drops.mlp)):
        for layer in (layers[index] for index in indices):
            for name in (name for name in sublayer_names(layer)[kind] if not is_norm(name)):
                setattr(layer, name, Silenced(getattr(layer, name)))
    return logits_of(model, ids)


def logits_of(model, ids):
    with torch.no_grad():
        return model(ids).logits


def modeling_files(architecture):
    """The Python files that a dropped checkpoint needs."""
    family = FAMILIES[architecture]
    return {
        "modeling_dropped.py",
        "split_experts.py",
        "sublayers.py",
        f"{family.modeling}.py",
        f"{family.configuration}.py",
    }


def edit_json(path: Path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def token_ids(num_samples, seq_len, seed=0):
    return torch.randint(2, VOCAB_SIZE - 40, (num_samples, seq_len), generator=torch.Generator().manual_seed(seed))
