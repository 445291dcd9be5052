"""What dropping half of the attention layers gains in vLLM on a CPU, by length of the context, beside a roofline.

    python tests/benchmarks/serving_ratios.py [--contexts 64 256 1024] [--pairs 7]

A random Llama of hidden size 1024 with 16 layers, float32, one thread, one sequence; every other attention is dropped.
First the base against itself, whose intervals must contain 1. The engines have passed the gate before they are timed.
Targets: KV tokens doubled within a block; every interval of the control contains 1.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from drop_ray.config import ServingConfig
from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.dropped import build_skeleton, read_config
from drop_ray.models.families import DropLists
from drop_ray.serving.bench import run_bench
from drop_ray.serving.engine import EngineSettings
from drop_ray.serving.spec import BenchSpec

NUM_LAYERS, VOCABULARY, OUTPUT = 16, 4096, 33
EVERY_OTHER = DropLists(attn=tuple(range(1, NUM_LAYERS, 2)))
KV_BYTES = 1 << 30


def write_model(folder):
    config = LlamaConfig(
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=VOCABULARY,
        max_position_embeddings=8192,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


def spec_of(folder, drops, options):
    serving = ServingConfig.model_validate(
        {
            "workloads": [{"prompt": context, "output": OUTPUT} for context in options.contexts],
            "batch_sizes": [1],
            "pairs": options.pairs,
            "kv_cache_bytes": KV_BYTES,
            "enforce_eager": True,
        }
    )
    checkpoint = open_checkpoint(folder)

    def settings(drops):
        return EngineSettings(
            kind="vllm",
            folder=str(folder),
            drops=drops,
            own_drops=DropLists(),
            dtype="float32",
            device="cpu",
            max_model_len=serving.model_len,
            max_batch=2,
            kv_cache_bytes=KV_BYTES,
            threads=1,
            enforce_eager=True,
        )

    skeleton = build_skeleton(read_config(checkpoint), DropLists(), torch.float32)
    generator = torch.Generator().manual_seed(0)
    return BenchSpec(
        serving=serving,
        base=settings(DropLists()),
        variant=settings(drops),
        size=measure(skeleton),
        vocab_size=VOCABULARY,
        tokens=range(3, VOCABULARY),
        text=torch.randint(3, VOCABULARY, (2, 128), generator=generator).tolist(),
        kv_shards=1,
        control=drops == DropLists(),
    )


def report(name, result):
    print(name)
    for metric in ("decode_tokens_per_s", "prefill_tokens_per_s"):
        for row in result.rows:
            if row["metric"] == metric and row["comparison"] == "equal_batch":
                print(
                    f"  {metric:20} context {row['prompt_tokens']:5}  {row['base']:8.1f} -> {row['plan']:8.1f}  "
                    f"ratio {row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})  roofline {row['predicted']:.3f}"
                )
    kv, gate = result.facts["kv"], result.facts["gate"]
    print(
        f"  KV tokens {kv['base_tokens']} -> {kv['plan_tokens']} in blocks of {kv['block_size']}; weights "
        f"{result.facts['memory']['base_weights_bytes']} -> {result.facts['memory']['plan_weights_bytes']} bytes; "
        f"log-probabilities differ by {gate['mean_difference']:.1e}, p99 {gate['p99_difference']:.1e}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        write_model(folder)
        report("the base against itself", run_bench(spec_of(folder, DropLists(), options)))
        report("half of the attention layers dropped", run_bench(spec_of(folder, EVERY_OTHER, options)))


if __name__ == "__main__":
    main()
