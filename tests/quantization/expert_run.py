"""A whole run in a process of its own: a tiny mixture of experts, dropped by hand, quantized, evaluated, reported.

    python tests/quantization/expert_run.py FOLDER ARCHITECTURE

Few calibration tokens meet few of its experts. Prints where the quantized checkpoint and the report are, and how the
logits of the checkpoint correlate with those of the dropped model in 16 bits.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import torch
from local_run import run_stages
from tiny_models import logits_of, token_ids, write_checkpoint

from drop_ray.config import parse_config
from drop_ray.job.opening import open_job
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.models.quantized import load_quantized

TRAITS = {"hidden_size": 64, "intermediate_size": 64, "num_experts_per_tok": 1}
# Kernels for CPUs take multiples of 16 outputs.
LATENT = {"kv_lora_rank": 32, "qk_rope_head_dim": 16, "n_routed_experts": 16}
OF_FAMILY = {
    "Qwen3MoeForCausalLM": {"moe_intermediate_size": 32, "num_experts": 8, "head_dim": 16},
    "MixtralForCausalLM": {"num_local_experts": 8},
    "Glm4MoeForCausalLM": {"moe_intermediate_size": 32, "n_routed_experts": 8},
    "DeepseekV2ForCausalLM": {"moe_intermediate_size": 32, **LATENT},
    "DeepseekV3ForCausalLM": {"moe_intermediate_size": 32, "q_lora_rank": 32, **LATENT},
}
LENGTH, SAMPLES = 6, 4
DROPPED = {"drop_attn": [0], "drop_mlp": [1]}


def main(folder: Path, architecture: str) -> None:
    write_checkpoint(folder / "model", architecture, num_layers=3, **TRAITS, **OF_FAMILY[architecture])
    ids = token_ids(SAMPLES + 8, LENGTH)
    for name, part in (("ids", ids[:SAMPLES]), ("others", ids[SAMPLES:])):
        (folder / f"{name}.json").write_text(json.dumps(part.tolist()))
    (folder / "by_hand.json").write_text(json.dumps(DROPPED))
    others = {"token_ids": str(folder / "others.json"), "num_samples": 8, "seq_len": LENGTH}
    config = {
        "name": "experts",
        "model": {"path": str(folder / "model"), "dtype": "float32"},
        "calibration": {"token_ids": str(folder / "ids.json"), "num_samples": SAMPLES, "seq_len": LENGTH},
        "plans": [{"file": str(folder / "by_hand.json")}],
        "quantization": [{"method": "gptq", "group_size": 32, "held_out": 1, "plans": ["by_hand"]}],
        "evaluation": {"perplexity": [{"name": "others", **others}], "divergence": others},
        "export": "none",
        "store": str(folder / "store"),
    }
    run = run_stages(open_job(parse_config(config, "test")))
    assert run.published is not None
    quantized = run.checkpoints["by_hand-gptq"]
    prompts = token_ids(4, 32, seed=3)
    exact = logits_of(load_model(folder / "model", DropLists(*map(tuple, DROPPED.values()))), prompts)
    found = logits_of(load_quantized(Path(quantized)), prompts)
    correlation = torch.corrcoef(torch.stack((exact.flatten(), found.flatten())))[0, 1].item()
    report = run.job.store.location(run.job.run_folder)
    print(json.dumps({"quantized": quantized, "report": report, "correlation": correlation}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
