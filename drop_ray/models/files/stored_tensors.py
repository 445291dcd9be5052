"""A file of weights, whatever its format and wherever it lies, as the rest of the package sees it."""

import math
import mmap
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import torch

from drop_ray.models.files.model_folder import ByteSource

# Keys are the dtype names of safetensors headers.
SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}
COPY_BYTES = 16 << 20


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file. If its dtype is not in `SAFETENSORS_DTYPES`, its bytes can only be copied."""

    dtype: str
    """Dtype as a safetensors header spells it."""
    shape: tuple[int, ...]
    """Shape of the tensor."""
    num_bytes: int
    """Size of its data in bytes."""


class Shard(Protocol):
    """One file of weights."""

    @property
    def file(self) -> str:
        """Its name in the model's folder."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """Its tensors by name, in the order in which they lie in the file."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The `__metadata__` of a safetensors header; empty for other formats."""

    @property
    def source(self) -> ByteSource:
        """The file itself."""

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        """The named tensors, each in memory of its own. UserError if the file ends early."""

    def copy(self, name: str, target: BinaryIO) -> None:
        """Write a tensor's bytes, row by row, `COPY_BYTES` at a time. UserError if the file ends early."""


@dataclass(frozen=True)
class ShardView:
    """A file of weights seen otherwise than it lies there: what is common to such views."""

    shard: Shard
    """The file."""

    @property
    def file(self) -> str:
        return self.shard.file

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        return self.shard.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.shard.metadata

    @property
    def source(self) -> ByteSource:
        return self.shard.source


def empty_pages(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialized tensor on memory pages of its own, which the system gets back as soon as it is released.

    The C library's heap keeps much of what is freed in between: a model streamed through it grew with every layer.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=dtype).reshape(shape)


def byte_view(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    view: memoryview = tensor.reshape(-1).view(torch.uint8).numpy().data
    return view
