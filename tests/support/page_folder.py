"""The folder that a reader of the pages is in: a finished run, and the models and plans that commands name.

The run is the demo's, on so few samples and documents that it takes seconds; `my.yaml` is the same run, and
`other.yaml` another one of the same store.
"""

import json
from pathlib import Path

import yaml
from page_commands import ROOT

DEMO = ROOT / "jobs" / "configs" / "demo.yaml"
STORE, OTHER = "drop-ray-store", "other.yaml"
LLAMA_3_70B = {
    "architectures": ["LlamaForCausalLM"],
    "torch_dtype": "bfloat16",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "num_hidden_layers": 80,
    "vocab_size": 128256,
}


def run_values() -> dict:
    """The demo's config with less of everything, and a quantization that needs no other library."""
    values = yaml.safe_load(DEMO.read_text())
    evaluation = values["evaluation"]
    values["calibration"].update(num_samples=8, seq_len=64)
    values["scoring"]["range_size"] = 4
    values["plans"] = [{"strategy": "attention", "drop": [4, 8]}, {"strategy": "block", "drop": [2]}]
    values["refit"] = [
        {"plans": ["attention-4"], "text": {**values["refit"][0]["text"], "num_samples": 40, "seq_len": 64}}
    ]
    evaluation["tasks"] = [{**task, "limit": 16} for task in evaluation["tasks"][:2]]
    for text in (evaluation["divergence"], *evaluation["perplexity"]):
        text.update(num_samples=4, seq_len=64)
    evaluation["gates"] = {"needle_lengths": [96], "num_items": 8, "generated_tokens": 16}
    return {**values, "quantization": [{"method": "fp8", "plans": ["attention-4"]}]}


def write_page_folder(folder: Path, store: Path) -> None:
    """folder: a new one, of one page; store: the one of all pages."""
    (folder / "jobs" / "configs").mkdir(parents=True)
    for path in ("my.yaml", "jobs/configs/demo.yaml"):
        (folder / path).write_text(yaml.safe_dump(run_values()))
    (folder / OTHER).write_text(yaml.safe_dump({**run_values(), "name": "other"}))
    (folder / STORE).symlink_to(store)
    (folder / "Llama-3-70B").mkdir()
    (folder / "Llama-3-70B" / "config.json").write_text(json.dumps(LLAMA_3_70B))
    (folder / "attention-40.json").write_text(json.dumps({"name": "attention-40", "drop_attn": list(range(40, 80))}))
