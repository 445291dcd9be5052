"""Peak memory of a streamed sweep as the model grows deeper: it must not follow the number of layers.

    python tests/benchmarks/sweep_memory.py [--hidden 1024]

Each depth in a process of its own (peak resident set of the process). Target: less than 10 % more for twice the layers.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.scoring.scorer import Scorer
from drop_ray.scoring.sweep import SweepSettings

DEPTHS = (8, 16, 32)


def write(folder, hidden, num_layers):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 128,
        vocab_size=1000,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def sweep_once(folder, placement):
    torch.set_num_threads(1)
    scorer = Scorer(
        open_checkpoint(folder), DropLists(), dtype=torch.float32, attn_implementation="sdpa", placement=placement
    )
    ids = torch.randint(0, 1000, (4, 64), generator=torch.Generator().manual_seed(0))
    list(scorer.score(ids, [range(4)], SweepSettings(micro_batch=2)))
    # Not getrusage: there a process starts with the peak of the one that forked it.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--only", nargs=2, metavar=("FOLDER", "PLACEMENT"), help="measure this model in this process")
    options = parser.parse_args()
    if options.only:
        sweep_once(*options.only)
        return
    first = {}
    for num_layers in DEPTHS:
        with tempfile.TemporaryDirectory() as folder:
            write(folder, options.hidden, num_layers)
            weights = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / 2**20
            for placement in ("streamed", "resident"):
                command = [sys.executable, __file__, "--only", folder, placement]
                peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                ratio = peak / first.setdefault(placement, peak)
                print(
                    f"{num_layers:3} layers, {weights:6.0f} MiB of weights, {placement}: "
                    f"peak {peak:6.0f} MiB, {ratio:.3f} of that at {DEPTHS[0]} layers"
                )


if __name__ == "__main__":
    main()
