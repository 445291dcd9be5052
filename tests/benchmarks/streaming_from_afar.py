"""How much of reading a model from an object store a streamed sweep hides behind its computation.

    python tests/benchmarks/streaming_from_afar.py [--latency 0.03] [--megabytes-per-second 20] [--sequences 8]

The store is a file system that answers each request after its latency, then at the speed of one connection; it takes
any number at once. Reading alone, computing alone (resident layers) and the streamed sweep are timed. Targets: the
sweep at most 1.4 times the longer of the two, and a layer read at least 5 times as fast as by one connection.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import fsspec
import torch
from fsspec.asyn import AsyncFileSystem
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings
from drop_ray.store import ranges


class AfarFileSystem(AsyncFileSystem):
    """Local files, as far away as `latency_s` and `bytes_per_s` of a connection say."""

    protocol = "afar"
    latency_s, bytes_per_s = 0.0, 1e9

    async def _cat_file(self, path, start=None, end=None, **_):
        with Path(path).open("rb") as file:
            file.seek(start or 0)
            data = file.read() if end is None else file.read(end - (start or 0))
        await asyncio.sleep(self.latency_s + len(data) / self.bytes_per_s)
        return data

    async def _ls(self, path, **_):
        return [{"name": str(file), "size": file.stat().st_size, "type": "file"} for file in Path(path).iterdir()]


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sweep_seconds(checkpoint, placement, ids):
    scorer = Scorer(checkpoint, DropLists(), dtype=torch.float32, attn_implementation="sdpa", placement=placement)
    return seconds(lambda: list(scorer.score(ids, [range(len(ids))], SweepSettings(micro_batch=2))))


def read_layers(checkpoint, num_layers):
    for index in range(num_layers):
        checkpoint.read(name for name in checkpoint.tensors if f".layers.{index}." in name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.03)
    parser.add_argument("--megabytes-per-second", type=float, default=20)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--sequences", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    AfarFileSystem.latency_s, AfarFileSystem.bytes_per_s = options.latency, options.megabytes_per_second * 1e6
    fsspec.register_implementation("afar", AfarFileSystem)
    config = LlamaConfig(
        hidden_size=options.hidden,
        intermediate_size=options.hidden * 11 // 4,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        vocab_size=1000,
    )
    ids = torch.randint(0, 1000, (options.sequences, 256))
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        near, afar = open_checkpoint(folder), open_checkpoint(f"afar://{folder}")
        layer_bytes = sum(tensor.num_bytes for name, tensor in near.tensors.items() if ".layers.0." in name)
        one_connection = options.layers * layer_bytes / AfarFileSystem.bytes_per_s
        reading = seconds(lambda: read_layers(afar, options.layers))
        computing = sweep_seconds(near, "resident", ids)
        streamed = sweep_seconds(afar, "streamed", ids)
    print(f"{options.layers} layers of {layer_bytes / 2**20:.0f} MiB, {ranges.RANGES_AT_ONCE} requests at once")
    print(f"reading alone   {reading:6.2f} s  ({one_connection / reading:.1f} times as fast as one connection)")
    print(f"computing alone {computing:6.2f} s")
    print(
        f"streamed sweep  {streamed:6.2f} s  ({streamed / max(reading, computing):.2f} of the longer of the two, ",
        end="",
    )
    print(f"{streamed / (reading + computing):.2f} of their sum)")


if __name__ == "__main__":
    main()
