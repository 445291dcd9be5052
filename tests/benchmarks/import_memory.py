"""Peak memory of an import of a Baichuan 2: it must not follow the size of the model.

    python tests/benchmarks/import_memory.py [--layers 8]

A random model of about 1.5 GiB, whose normalized head is its largest tensor, imported by a process of its own. Target:
a peak (resident set, mapped file pages included) of less than twice the largest tensor plus 300 MiB above that of the
imports alone.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from export_memory import peak
from peak_memory import print_peak

from drop_ray.importing.checkpoint import import_model

sys.path.append(str(Path(__file__).parents[1] / "support"))
from tiny_baichuan import config_of, make_state, write_baichuan


def write(folder, num_layers, form):
    """Returns the bytes of the weights and of the largest tensor."""
    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": num_layers, "num_attention_heads": 8}
    state = make_state(config_of(2, **sizes))
    write_baichuan(folder, 2, form, state, **sizes)
    sizes = [tensor.numel() * tensor.itemsize for tensor in state.values()]
    return sum(sizes), max(sizes)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--only", metavar="FOLDER", help="import the model in this folder, in this process")
    options = parser.parse_args()
    if options.only:
        torch.set_num_threads(1)
        imports = peak()
        import_model(options.only, None, Path(options.only).parent / "output")
        print(imports, peak())
        return
    for form in ("safetensors", "single bin", "sharded bin"):
        with tempfile.TemporaryDirectory() as path:
            weights, largest = write(Path(path) / "source", options.layers, form)
            print_peak(__file__, form, f"{path}/source", weights, largest)


if __name__ == "__main__":
    main()
