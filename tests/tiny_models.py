"""Writes tiny random checkpoints in the real file format: grouped-query heads, and a tokenizer of the tests' own."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

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
}
CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": False}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 16, "tie_word_embeddings": True}),
}


def make_model(family, num_layers=4, seed=0, **overrides):
    """A float32 model whose sub-layers all matter: weights larger than the library's initial ones."""
    config_class, model_class, extra = CLASSES[family]
    torch.manual_seed(seed)
    config = config_class(**{**COMMON, "num_hidden_layers": num_layers, **extra, **overrides})
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1).add_(torch.randn_like(parameter) * 0.02)
    return model


def write_checkpoint(folder: Path, family="llama", shard_size="64KB", **kwargs) -> Path:
    make_model(family, **kwargs).save_pretrained(folder, max_shard_size=shard_size)
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


def edit_json(path: Path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def token_ids(num_samples, seq_len, seed=0):
    return torch.randint(2, VOCAB_SIZE - 40, (num_samples, seq_len), generator=torch.Generator().manual_seed(seed))
