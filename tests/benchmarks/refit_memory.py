"""Peak memory of a refit as the model grows deeper: it must not follow the number of layers.

    python tests/benchmarks/refit_memory.py [--hidden 1024]

Each depth in a process of its own (peak resident set of the process), dropping one attention layer of the first half.
Target: less than 10 % more for twice the layers.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from sweep_memory import write

from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.refit.refitting import Refitting
from drop_ray.refit.results import RefitSettings

DEPTHS = (8, 16, 32)


def refit_once(folder):
    torch.set_num_threads(1)
    checkpoint = open_checkpoint(folder)
    ids = torch.randint(0, 1000, (10, 64), generator=torch.Generator().manual_seed(0))
    settings = RefitSettings(0.1, 2, torch.float32, "sdpa")
    refitting = Refitting(checkpoint, ids, range(8, 10), settings)
    refitting.add(checkpoint, DropLists((2,)))
    for _ in refitting.layers():
        pass
    # Not getrusage: there a process starts with the peak of the one that forked it.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def peak_of(hidden, num_layers):
    """(MiB of weights, peak in MiB) of a model of that size."""
    with tempfile.TemporaryDirectory() as folder:
        write(folder, hidden, num_layers)
        weights = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / 2**20
        command = [sys.executable, __file__, "--only", folder]
        return weights, float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--only", metavar="FOLDER", help="measure this model in this process")
    options = parser.parse_args()
    if options.only:
        refit_once(options.only)
        return
    first = None
    for num_layers in DEPTHS:
        weights, peak = peak_of(options.hidden, num_layers)
        first = first or peak
        print(f"{num_layers:3} layers, {weights:6.0f} MiB of weights: peak {peak:6.0f} MiB, {peak / first:.3f}")


if __name__ == "__main__":
    main()
