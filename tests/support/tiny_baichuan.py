"""Writes tiny random Baichuan folders as they were published, and computes their logits without any code of ours."""

import io
import json
import random
from functools import cache

import sentencepiece
import torch
from checkpoint_forms import write_index
from safetensors.torch import save_file
from torch.nn.functional import normalize, silu

SIZES = {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4}
VOCABULARIES = {1: 500, 2: 125696}
CONFIG = {
    **SIZES,
    "auto_map": {"AutoModelForCausalLM": "modeling_baichuan.BaichuanForCausalLM"},
    "model_type": "baichuan",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "z_loss_weight": 0,
}
# Baichuan 1 puts a space in front of a text; Baichuan 2 does not (arXiv 2309.10305). Both have reserved symbols.
TRAINING = {
    1: {"add_dummy_prefix": True, "user_defined_symbols": ["<reserved_1>", "<reserved_12>"]},
    2: {"add_dummy_prefix": False, "user_defined_symbols": ["<reserved_1>", "<reserved_12>", "▁▁", "▁▁▁▁", "\n"]},
}
TEXT = "the quick brown fox jumps naïve café 北京 是个 不错的 城市 12 345 def return self. x==y aaa abab über ключ"
WORDS = TEXT.split()


def config_of(generation, **fields):
    name = {1: "BaiChuanForCausalLM", 2: "BaichuanForCausalLM"}[generation]
    return {**CONFIG, "architectures": [name], "vocab_size": VOCABULARIES[generation], **fields}


def make_state(config, dtype=torch.float32):
    """Tensors by the names of the published checkpoints, rotary buffers of the first one included."""
    torch.manual_seed(0)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    matrices = {"self_attn.W_pack": (3 * hidden, hidden), "self_attn.o_proj": (hidden, hidden)}
    matrices |= {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    state = {"model.embed_tokens.weight": torch.randn(config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        state |= {f"{prefix}{name}.weight": torch.randn(shape) / shape[1] ** 0.5 for name, shape in matrices.items()}
        state |= {f"{prefix}{name}.weight": 1 + torch.randn(hidden) / 5 for name in NORMS}
        state[f"{prefix}self_attn.rotary_emb.inv_freq"] = torch.rand(hidden // config["num_attention_heads"] // 2)
    state |= {"model.norm.weight": 1 + torch.randn(hidden) / 5}
    state |= {"lm_head.weight": torch.randn(config["vocab_size"], hidden) / 2}
    return {name: tensor.to(dtype) for name, tensor in state.items()}


NORMS = ("input_layernorm", "post_attention_layernorm")


def reference_logits(state, config, ids, silent_attention=(), silent_mlp=()):
    """[batch, seq_len, vocabulary] of the model as its authors wrote it; silent: layers whose output counts nothing."""
    heads, eps = config["num_attention_heads"], config["rms_norm_eps"]
    hidden = state["model.embed_tokens.weight"][ids]
    size = config["hidden_size"] // heads
    angles = torch.arange(ids.shape[1])[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
    cos, sin = (function(torch.cat((angles, angles), -1)) for function in (torch.cos, torch.sin))
    future = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)

    def norm(states, name):
        return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + eps) * state[f"{name}.weight"]

    def rotate(states):
        first, second = states.chunk(2, -1)
        return states * cos + torch.cat((-second, first), -1) * sin

    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        packed = norm(hidden, prefix + "input_layernorm") @ state[prefix + "self_attn.W_pack.weight"].T
        query, key, value = packed.unflatten(-1, (3, heads, size)).permute(2, 0, 3, 1, 4)
        scores = rotate(query) @ rotate(key).transpose(-1, -2) / size**0.5 + future
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        if layer not in silent_attention:
            hidden = hidden + mixed @ state[prefix + "self_attn.o_proj.weight"].T
        entered = norm(hidden, prefix + "post_attention_layernorm")
        gate, up, down = (state[f"{prefix}mlp.{name}_proj.weight"].T for name in ("gate", "up", "down"))
        if layer not in silent_mlp:
            hidden = hidden + (silu(entered @ gate) * (entered @ up)) @ down
    head = state["lm_head.weight"]
    return norm(hidden, "model.norm") @ (normalize(head) if len(head) == VOCABULARIES[2] else head).T


@cache
def train_sentencepiece(**settings):
    """A serialized BPE model with byte fallback."""
    generator = random.Random(0)
    lines = [" ".join(generator.choices(WORDS, k=12)) for _ in range(1000)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=400,
        hard_vocab_limit=False,  # the text is too small for a unigram model of that size
        model_type=settings.pop("model_type", "bpe"),
        byte_fallback=True,
        split_digits=True,
        minloglevel=2,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()},
    )
    return model.getvalue()


def tokenizer_of(generation, **settings):
    plain = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    symbols = tuple(TRAINING[generation]["user_defined_symbols"])
    return train_sentencepiece(**{**plain, **TRAINING[generation], "user_defined_symbols": symbols, **settings})


def write_tokenizer(folder, model, **fields):
    (folder / "tokenizer.model").write_bytes(model)
    config = {
        "add_bos_token": False,
        "add_eos_token": False,
        "auto_map": {"AutoTokenizer": ["tokenization_baichuan.BaichuanTokenizer", None]},
        "model_max_length": 256,
        "pad_token": {"__type": "AddedToken", "content": "<unk>", "normalized": True, "single_word": True},
        "bos_token": {"__type": "AddedToken", "content": "<s>", "normalized": True, "single_word": True},
        "tokenizer_class": "BaichuanTokenizer",
        **fields,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_baichuan(folder, generation, form="single bin", state=None, **fields):
    """A published folder; state: other tensors than `make_state` gives."""
    config = config_of(generation, **fields)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"user_token_id": 195}')
    (folder / "README.md").write_text("the model card\n")
    (folder / "Community License for Baichuan2 Model.pdf").write_text("the licence\n")
    (folder / "modeling_baichuan.py").write_text("raise SystemExit('remote code was run')\n")
    (folder / "special_tokens_map.json").write_text('{"bos_token": "<s>"}')
    write_tokenizer(folder, tokenizer_of(generation))
    state = state or make_state(config)
    if form == "single bin":
        torch.save(state, folder / "pytorch_model.bin")
    elif form == "sharded bin":
        parts = {f"pytorch_model-{number}.bin": list(state)[number::2] for number in range(2)}
        for file, names in parts.items():
            torch.save({name: state[name] for name in names}, folder / file)
        write_index(folder / "pytorch_model.bin.index.json", parts)
    else:
        save_file(state, folder / "model.safetensors")
    return folder
