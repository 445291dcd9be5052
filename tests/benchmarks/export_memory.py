"""Peak memory of an export from every form of a checkpoint, and in FP8: it must not follow the size of the model.

    python tests/benchmarks/export_memory.py [--layers 12]

A random model of about 1 GiB, written shard by shard, exported without one attention layer by a process of its own;
also in 8-bit floats, by channel and by block.
Target: a peak (resident set, mapped file pages included) of less than twice the largest tensor plus 300 MiB above that
of the imports alone. With the comparison of its logits, which every export of a run has: two layers, the embedding or
the output layer, and 300 MiB, in float32.
"""

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

import torch
from peak_memory import print_peak
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from drop_ray.config.quantization import Fp8Spec
from drop_ray.evaluation.export_check import check_export
from drop_ray.models.checkpoint import open_checkpoint
from drop_ray.models.export import export_checkpoint
from drop_ray.models.families import DropLists
from drop_ray.models.files.safetensors_writer import INDEX_FILE
from drop_ray.quantization.fp8 import ENGINE

sys.path.append(str(Path(__file__).parents[1] / "support"))
from checkpoint_forms import write_index

FORMS = ("safetensors", "bin", "s3")
SCHEMES = ("channel", "block")


def write(folder, num_layers, form):
    """float32 shards: one for the tensors around the layers, one a layer.

    Returns the bytes of the largest tensor and of a layer.
    """
    config = LlamaConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=num_layers,
        num_attention_heads=16,
        vocab_size=32000,
        architectures=["LlamaForCausalLM"],
        dtype="float32",
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        state = LlamaForCausalLM(config).state_dict()
    shards = {}
    for name, tensor in state.items():
        part = name.split(".")[2] if ".layers." in name else "outside"
        shards.setdefault(f"part-{part}.{form}", {})[name] = tensor.shape
    for file, shapes in shards.items():
        tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
        save = save_file if form == "safetensors" else torch.save
        save(tensors, folder / file)
    name = INDEX_FILE if form == "safetensors" else "pytorch_model.bin.index.json"
    write_index(folder / name, shards)
    sizes = {name: tensor.numel() * 4 for name, tensor in state.items()}
    return max(sizes.values()), sum(size for name, size in sizes.items() if ".layers.0." in name)


def peak():
    # Not getrusage: there a process starts with the peak of the one that forked it.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def export_once(location, compare, scheme):
    torch.set_num_threads(1)
    imports, drops = peak(), DropLists((1,), ())
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "dropped"
        checkpoint = open_checkpoint(location)
        if scheme is None:
            export_checkpoint(checkpoint, drops, output)
        else:
            settings = {"dtype": torch.bfloat16, "device": "cpu", "provenance": {}, "progress": lambda *_: None}
            spec, nothing = Fp8Spec(method="fp8", scheme=scheme), torch.zeros(0, 1)
            ENGINE.quantize(checkpoint, drops, spec, nothing, output, **settings)
        if compare:
            assert check_export(checkpoint, drops, output, "dropped") == 0
    print(imports, peak())


def upload(folder):
    import s3fs
    from s3_server import S3Server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or it prints every request
    server = S3Server()
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {**credentials, "AWS_ENDPOINT_URL": server.url}
    files = s3fs.S3FileSystem()
    files.mkdir("models")
    files.put(str(folder), "models/random", recursive=True)
    return server, "s3://models/random"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--only", metavar="LOCATION", help="measure this model in this process")
    parser.add_argument("--compare", action="store_true", help="with the comparison")
    parser.add_argument("--fp8", choices=SCHEMES, help="in 8-bit floats")
    options = parser.parse_args()
    if options.only:
        export_once(options.only, options.compare, options.fp8)
        return
    for form in FORMS:
        with tempfile.TemporaryDirectory() as path:
            folder = Path(path) / "random"
            folder.mkdir()
            largest, layer = write(folder, options.layers, "bin" if form == "bin" else "safetensors")
            weights = sum(file.stat().st_size for file in folder.iterdir())
            server, location = upload(folder) if form == "s3" else (None, str(folder))
            print_peak(__file__, form, location, weights, largest)
            target = 2 * layer + largest + (300 << 20)
            print_peak(__file__, f"{form} and compared", location, weights, largest, target, ["--compare"])
            for scheme in SCHEMES if form == "safetensors" else ():
                print_peak(__file__, f"fp8 {scheme}", location, weights, largest, arguments=["--fp8", scheme])
            if server:
                server.stop()


if __name__ == "__main__":
    main()
