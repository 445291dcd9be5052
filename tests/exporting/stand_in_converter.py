"""In place of llama.cpp's converter: writes the GGUF file of a nemotron-nas folder, with the fault that FAULT names."""

import argparse
import json
import os
import sys
from pathlib import Path

import gguf
from safetensors import safe_open

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
FAULT = os.environ.get("FAULT", "")

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--outfile")
parser.add_argument("--outtype", choices=["f32", "bf16", "f16"])
options = parser.parse_args()
if FAULT == "fails":
    sys.exit("a tokenizer that it does not know")
if FAULT == "writes nothing":
    sys.exit()

config = json.loads((options.folder / "config.json").read_text())
heads, size = config["num_attention_heads"], config["hidden_size"]
counts, kv_counts, widths = [], [], []
for block in config["block_configs"]:
    group, mult = block["attention"]["n_heads_in_group"], block["ffn"]["ffn_mult"]
    counts.append(heads if group else 0)
    kv_counts.append(heads // group if group else 0)
    widths.append(round(2 * mult * size / 3) if mult else 0)
if FAULT == "heads":
    kv_counts[0] *= 2
writer = gguf.GGUFWriter(options.outfile, "deci")
writer.add_block_count(len(counts))
writer.add_vocab_size(config["vocab_size"])
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(size)
writer.add_head_count(counts)
writer.add_head_count_kv(kv_counts)
writer.add_feed_forward_length(widths)
writer.add_layer_norm_rms_eps(config["rms_norm_eps"] * (10 if FAULT == "epsilon" else 1))
writer.add_key_length(size // heads)
writer.add_value_length(size // heads)
writer.add_rope_dimension_count(size // heads)
writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
# torch takes seconds to import, and numpy has no bfloat16.
framework = "np" if options.outtype == "f32" else "pt"
for path in sorted(options.folder.glob("*.safetensors")):
    file = safe_open(path, framework)
    for name in file.keys():  # noqa: SIM118
        own, values = name, file.get_tensor(name)
        if framework == "pt":
            values = values.float().numpy()
        for before, after in NAMES.items():
            own = own.replace(before, after)
        for part, count in (("attn_q", heads), ("attn_k", config["num_key_value_heads"])):
            if part in own and FAULT != "order":
                values = values.reshape(count, 2, -1, size).swapaxes(1, 2).reshape(values.shape)
        if FAULT == "value" and own == "blk.1.ffn_up.weight":
            values[3, 5] += 1e-3
        if FAULT == "absent" and own == "blk.3.attn_v.weight":
            continue
        writer.add_tensor(own, values)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
