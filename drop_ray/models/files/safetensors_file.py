"""A safetensors file: its header, checked against the bytes that are there, and its tensors.

Tensors are copied out of the file into memory of their own: a memory map would give each tensor the alignment of its
place in the file, and matrix kernels may sum in another order for another alignment.
"""

import math
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from drop_ray.errors import UserError
from drop_ray.models.files.model_folder import ByteSource, read_bytes
from drop_ray.models.files.stored_tensors import (
    COPY_BYTES,
    SAFETENSORS_DTYPES,
    StoredTensor,
    byte_view,
    empty_pages,
)
from drop_ray.reading.json_text import parse_json_object

# The limit of the safetensors library.
LONGEST_HEADER = 100_000_000
# No tensor has as many rows, and no file as many bytes; torch counts with 64 bits.
LARGEST = 1 << 48


@dataclass(frozen=True)
class SafetensorsShard:
    """A safetensors file, opened and checked by `open_safetensors`."""

    file: str
    """Name of the file in the model's folder."""
    source: ByteSource
    """The file's bytes."""
    metadata: Mapping[str, str]
    """The header's `__metadata__`."""
    tensors: Mapping[str, StoredTensor]
    """Tensors by name, in the order in which they lie in the file."""
    offsets: Mapping[str, int]
    """Offset of each tensor's first byte in the file."""

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        wanted = set(names)
        tensors = {name: self._empty(name) for name in self.tensors if name in wanted}
        self.source.fill([(self.offsets[name], byte_view(tensor)) for name, tensor in tensors.items()])
        return tensors

    def copy(self, name: str, target: BinaryIO) -> None:
        num_bytes = self.tensors[name].num_bytes
        buffer = memoryview(bytearray(min(num_bytes, COPY_BYTES)))
        for start in range(0, num_bytes, COPY_BYTES):
            piece = buffer[: num_bytes - start]
            self.source.fill([(self.offsets[name] + start, piece)])
            target.write(piece)

    def _empty(self, name: str) -> torch.Tensor:
        tensor = self.tensors[name]
        if tensor.dtype not in SAFETENSORS_DTYPES:
            raise UserError(
                f"model.path: {self.source.location} holds {tensor.dtype} tensors; "
                "give a checkpoint in BF16, F16 or F32"
            )
        return empty_pages(tensor.shape, SAFETENSORS_DTYPES[tensor.dtype])


def open_safetensors(file: str, source: ByteSource) -> SafetensorsShard:
    """Read and check a header. UserError names the file, what is wrong with it and the remedy."""
    header = _read_header(source)
    data_start = 8 + len(header)
    entries = parse_json_object(header, f"model.path: {source.location}: its safetensors header")
    metadata = entries.pop("__metadata__", {})
    try:
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("__metadata__ maps names to something else than text")
        spans = sorted(((*_span(entry), name) for name, entry in entries.items()), key=lambda span: span[:2])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"model.path: {source.location} is not a safetensors file ({error!r}); download it again"
        ) from error
    end = 0
    for start, stop, tensor, name in spans:
        _check_span(source, name, tensor, start, end)
        end = stop
    expected = data_start + end
    if source.size < expected:
        raise UserError(
            f"model.path: {source.location} is truncated: {source.size} bytes of {expected}; download it again"
        )
    if source.size > expected:
        raise UserError(
            f"model.path: {source.location} goes on after its last tensor: {source.size} bytes instead of {expected}; "
            "download it again"
        )
    return SafetensorsShard(
        file=file,
        source=source,
        metadata=metadata,
        tensors={name: tensor for _, _, tensor, name in spans},
        offsets={name: data_start + start for start, _, _, name in spans},
    )


def _read_header(source: ByteSource) -> bytes:
    """The JSON header. The format begins with its length as little-endian u64."""
    size = source.size
    length = struct.unpack("<Q", read_bytes(source, 0, 8))[0] if size >= 8 else size
    if length > LONGEST_HEADER:
        raise UserError(f"model.path: {source.location} is not a safetensors file; download it again")
    if length > size - 8:
        raise UserError(f"model.path: {source.location} is truncated inside its header; download it again")
    return read_bytes(source, 8, length)


def _span(entry: Mapping[str, Any]) -> tuple[int, int, StoredTensor]:
    """(first byte, byte after the last, tensor) of a header entry."""
    start, stop = entry["data_offsets"]
    numbers = (start, stop, *entry["shape"])
    if not isinstance(entry["dtype"], str) or not all(type(number) is int for number in numbers):
        raise ValueError("a tensor whose type is no text, or whose sizes are no whole numbers")
    if not all(0 <= number < LARGEST for number in numbers):
        raise ValueError(f"a tensor of shape {entry['shape']} from byte {start} to {stop}")
    return start, stop, StoredTensor(entry["dtype"], tuple(entry["shape"]), stop - start)


def _check_span(source: ByteSource, name: str, tensor: StoredTensor, start: int, end: int) -> None:
    """Raise UserError unless the tensor begins where the one before it ended: the format allows no overlaps or gaps."""
    if start != end or tensor.num_bytes < 0:
        raise UserError(
            f"model.path: {source.location}: the data of {name} begins at byte {start}, not where the tensor before it "
            f"ends ({end}); the file is damaged, download it again"
        )
    dtype = SAFETENSORS_DTYPES.get(tensor.dtype)
    expected = math.prod(tensor.shape) * dtype.itemsize if dtype else tensor.num_bytes
    if tensor.num_bytes != expected:
        raise UserError(
            f"model.path: {source.location}: {name} has {tensor.num_bytes} bytes, but {tensor.dtype} of shape "
            f"{list(tensor.shape)} takes {expected}; the file is damaged, download it again"
        )
