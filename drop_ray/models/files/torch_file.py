"""A PyTorch .bin file of weights, mapped into memory while it is read.

Every read maps the file anew and lets it go: the pages that a mapping has touched count as the process's memory for as
long as it lives.
"""

import pickle
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import torch

from drop_ray.errors import UserError
from drop_ray.models.files.model_folder import LocalSource, read_bytes
from drop_ray.models.files.stored_tensors import (
    COPY_BYTES,
    SAFETENSORS_DTYPES,
    StoredTensor,
    byte_view,
    empty_pages,
)
from drop_ray.text.faults import in_a_line

DTYPE_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}
ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class TorchShard:
    """A PyTorch file of weights, opened and checked by `open_torch_file`."""

    file: str
    """Name of the file in the model's folder."""
    source: LocalSource
    """The file, a local one since no other can be mapped."""
    tensors: Mapping[str, StoredTensor]
    """Tensors by name, in the order in which they lie in the file."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Always empty: the format has none."""

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """The named tensors. Several names of one tensor, such as a tied embedding, get one copy."""
        mapped = _map(self.source)
        copies: dict[tuple[Any, ...], torch.Tensor] = {}
        tensors = {}
        wanted = set(names)
        for name in (name for name in self.tensors if name in wanted):
            tensor = mapped[name]
            place = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if place not in copies:
                copies[place] = empty_pages(tuple(tensor.shape), tensor.dtype).copy_(tensor)
            tensors[name] = copies[place]
        return tensors

    def copy(self, name: str, target: BinaryIO) -> None:
        view = byte_view(_map(self.source)[name].contiguous())
        for start in range(0, len(view), COPY_BYTES):
            target.write(view[start : start + COPY_BYTES])


def open_torch_file(file: str, source: LocalSource) -> TorchShard:
    """Read which tensors a file holds. UserError names the file, what is wrong with it and the remedy."""
    tensors = {name: _describe(source, name, tensor) for name, tensor in _map(source).items()}
    return TorchShard(file, source, tensors)


def _map(source: LocalSource) -> dict[str, torch.Tensor]:
    """The tensors of the file, mapped: their bytes are read when they are touched."""
    if read_bytes(source, 0, min(4, source.size)) != ZIP_MAGIC:
        raise UserError(
            f"model.path: {source.location} is in PyTorch's old format (or none), which cannot be mapped; convert it: "
            "torch.save(torch.load(file, weights_only=True), file), or save the model as safetensors"
        )
    try:
        state: Any = torch.load(source.path, weights_only=True, mmap=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise UserError(
            f"model.path: {source.location} holds more than tensors, and loading that could run foreign code; "
            "convert the model to safetensors where you trust it"
        ) from error
    except Exception as error:  # a damaged pickle makes torch fail in any way
        raise UserError(
            f"model.path: {source.location} cannot be read ({in_a_line(error)}); download it again"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise UserError(
            f"model.path: {source.location} is not a mapping from names to tensors; save model.state_dict() alone"
        )
    return {name: tensor.detach() for name, tensor in state.items()}


def _describe(source: LocalSource, name: str, tensor: torch.Tensor) -> StoredTensor:
    if tensor.layout != torch.strided or tensor.dtype not in DTYPE_NAMES:
        raise UserError(
            f"model.path: {source.location}: {name} is a {tensor.layout} tensor of {tensor.dtype}; "
            "give a checkpoint of dense tensors in bfloat16, float16 or float32"
        )
    return StoredTensor(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), tensor.numel() * tensor.itemsize)
