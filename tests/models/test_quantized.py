"""A quantized checkpoint that lacks a tensor, or has one too many, is not loaded."""

import subprocess
import sys

from packed_models import write_rounded
from safetensors.torch import load_file, save_file
from tiny_models import write_checkpoint

from drop_ray.models.families import DropLists

# transformers' quantizers import the engine, which changes settings of the process.
LOAD = """
import sys
from pathlib import Path
from drop_ray.errors import CorruptArtifactError
from drop_ray.models.quantized import load_quantized

for name in sys.argv[1:]:
    try:
        model = load_quantized(Path(name))
        print("LOADED", model.training, model.dtype, model.config.drop_attn_list)
    except CorruptArtifactError as error:
        print("REFUSED", str(error).removeprefix(name))
"""


def test_missing_and_unexpected_tensors_are_named(tmp_path):
    base = write_checkpoint(tmp_path / "base")
    changes = {
        "whole": lambda tensors: tensors,
        "lacking": lambda tensors: tensors.pop("model.layers.2.mlp.up_proj.scales"),
        "with more": lambda tensors: tensors.update({"model.more.weight": tensors["model.norm.weight"].clone()}),
    }
    folders = []
    for method in ("awq", "gptq"):
        for name, change in changes.items():
            folders.append(write_rounded(base, DropLists((1,), (3,)), tmp_path / f"{method}, {name}", method))
            tensors = load_file(folders[-1] / "model.safetensors")
            change(tensors)
            save_file(tensors, folders[-1] / "model.safetensors")
    result = subprocess.run(
        [sys.executable, "-c", LOAD, *map(str, folders)], cwd=tmp_path, capture_output=True, text=True
    )
    lines = [line for line in result.stdout.splitlines() if line.startswith(("LOADED", "REFUSED"))]
    of_a_method = [
        "LOADED False torch.float32 [1]",
        "REFUSED : missing_keys: 1, the first is model.layers.2.mlp.up_proj.scales",
        "REFUSED : unexpected_keys: 1, the first is model.more.weight",
    ]
    assert lines == of_a_method * 2, result.stderr[-3000:]
