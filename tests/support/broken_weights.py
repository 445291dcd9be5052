"""Copies of a tiny checkpoint in which a number of one tensor is another."""

import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file


def with_value(folder: Path, copy: Path, tensor: str, value: float) -> Path:
    """The checkpoint with the first number of that tensor changed; of the embedding, that of token 5."""
    shutil.copytree(folder, copy)
    for path in copy.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            if tensor not in file.keys():  # noqa: SIM118 - a file of safetensors is no mapping
                continue
        tensors = load_file(path)
        tensors[tensor].reshape(-1)[5 * tensors[tensor].shape[-1] if "embed" in tensor else 0] = value
        save_file(tensors, path, metadata={"format": "pt"})
    return copy
