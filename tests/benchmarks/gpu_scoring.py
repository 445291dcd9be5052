"""Scoring on one GPU at the size of Llama-3-8B, against the device's own limits.

    python tests/benchmarks/gpu_scoring.py FOLDER [--layers 32] [--samples 32] [--rounds 3]

Writes a checkpoint of random bfloat16 weights into FOLDER unless one is there. Times a bare forward pass, the sweep
with resident layers, with windows, with two metrics, and with streamed layers. The yardstick is a bfloat16 matrix
product of 8192 x 8192 x 8192, timed in the same process. Resident and streamed scores must be equal bit for bit.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from drop_ray.models.accounting import measure
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.loading import load_model
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings

SEQ_LEN = 2048
MICRO_BATCH = 4
PRODUCT = 8192


def write_checkpoint(folder, num_layers):
    """A Llama-3-8B of random weights, a file per layer."""
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=num_layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    groups = {"rest": {}}
    for name, parameter in model.state_dict().items():
        group = ".".join(name.split(".")[:3]) if ".layers." in name else "rest"
        tensor = torch.empty(parameter.shape, dtype=torch.bfloat16, device="cuda")
        if "norm" in name:
            nn.init.ones_(tensor)
        else:
            nn.init.normal_(tensor, std=0.02)
        groups.setdefault(group, {})[name] = tensor.cpu()
    weight_map = {}
    for number, tensors in enumerate(groups.values(), 1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config.save_pretrained(folder)


def seconds(work, rounds):
    """Median time of `work` in seconds, after one call that is not timed."""
    measured = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        measured.append(time.perf_counter() - start)
    return statistics.median(measured[1:])


def product_rate(rounds):
    """Operations per second of a large matrix product."""
    a, b = (torch.randn(PRODUCT, PRODUCT, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    return 10 * 2 * PRODUCT**3 / seconds(lambda: [a @ b for _ in range(10)], rounds)


def bare_forward(checkpoint, ids, rounds):
    """Seconds of a forward pass over all samples without scoring, and its number of operations."""
    start = time.perf_counter()
    model = load_model(checkpoint, device="cuda")
    torch.cuda.synchronize()
    loading = time.perf_counter() - start
    weights = sum(parameter.nbytes for parameter in model.parameters()) / 1e9
    start = time.perf_counter()
    tensors = dict(checkpoint.read(name for name in checkpoint.tensors if ".layers.0." in name))
    reading = sum(tensor.nbytes for tensor in tensors.values()) / 1e9 / (time.perf_counter() - start)
    start = time.perf_counter()
    copies = [tensor.to("cuda") for tensor in tensors.values()]
    torch.cuda.synchronize()
    copying = sum(tensor.nbytes for tensor in copies) / 1e9 / (time.perf_counter() - start)
    print(
        f"loaded {weights:.1f} GB at {weights / loading:.2f} GB/s; a layer is read at {reading:.2f} GB/s and copied to "
        f"the device at {copying:.2f} GB/s",
        flush=True,
    )

    def work():
        with torch.inference_mode():
            for batch in ids.split(MICRO_BATCH):
                model.model(batch.cuda(), use_cache=False)

    return seconds(work, rounds), measure(model).forward_flops(DropLists(), ids.numel(), SEQ_LEN)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    if not (options.folder / "config.json").is_file():
        start = time.perf_counter()
        write_checkpoint(options.folder, options.layers)
        print(f"wrote the checkpoint in {time.perf_counter() - start:.1f} s", flush=True)
    peak = product_rate(options.rounds)
    print(f"{torch.cuda.get_device_name()}: matrix product at {peak / 1e12:.0f} TFLOP/s", flush=True)

    checkpoint = open_checkpoint(options.folder)
    ids = torch.randint(0, 128256, (options.samples, SEQ_LEN))
    bare, flops = bare_forward(checkpoint, ids, options.rounds)
    scores = {}

    def show(name, measured):
        rate = flops / measured
        print(
            f"{name:32} {measured:7.2f} s  {rate / 1e12:5.0f} TFLOP/s  {rate / peak:.2f} of the product's  "
            f"ratio to the bare forward {measured / bare:.3f}",
            flush=True,
        )

    def run(name, placement, settings, rounds):
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        scorer = Scorer(
            checkpoint,
            DropLists(),
            dtype=torch.bfloat16,
            attn_implementation="sdpa",
            placement=placement,
            device="cuda",
        )
        torch.cuda.synchronize()
        loading = time.perf_counter() - start

        def work():
            scores[name] = [row for _, rows in scorer.score(ids, [range(len(ids))], settings) for row in rows]

        show(name, seconds(work, rounds))
        peak_gb = torch.cuda.max_memory_allocated() / 1e9
        print(f"{'':32} loading {loading:.1f} s, peak {peak_gb:.1f} GB of device memory", flush=True)

    show("bare forward", bare)
    run("sweep, resident", "resident", SweepSettings(MICRO_BATCH), options.rounds)
    run("sweep, streamed", "streamed", SweepSettings(MICRO_BATCH, wave_bytes=8 << 30), 1)
    run("sweep, streamed, states on host", "streamed", SweepSettings(MICRO_BATCH, (1,), 8 << 30, "cpu"), 1)
    run("sweep, windows to 8", "resident", SweepSettings(MICRO_BATCH, tuple(range(1, 9))), options.rounds)
    run("sweep, two metrics", "resident", SweepSettings(MICRO_BATCH, metrics=("cosine", "angular")), options.rounds)
    resident = scores["sweep, resident"]
    for name in ("sweep, streamed", "sweep, streamed, states on host"):
        assert scores[name] == resident, f"{name} and resident layers give different scores"
    print(f"{len(resident)} rows, equal bit for bit from resident and streamed layers")


if __name__ == "__main__":
    main()
