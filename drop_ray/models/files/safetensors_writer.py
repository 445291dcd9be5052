"""Writes safetensors tensor by tensor, so that no tensor has to be in memory: each entry writes its own bytes."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from drop_ray.models.files.stored_tensors import SAFETENSORS_DTYPES
from drop_ray.text.progress import ignore_progress

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorEntry:
    """A tensor to be written."""

    name: str
    """Name in the new file."""
    dtype: str
    """Dtype as a safetensors header spells it."""
    shape: tuple[int, ...]
    """Shape of the tensor."""
    num_bytes: int
    """Size of its data in bytes."""
    write: Callable[[BinaryIO], None]
    """Writes exactly `num_bytes` bytes to a file."""


@dataclass(frozen=True)
class ShardEntries:
    """The contents of one new file of weights."""

    entries: Sequence[TensorEntry]
    """The tensors of the file."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Entries of the file's `__metadata__` beside `format`."""

    @property
    def num_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self.entries)

    @property
    def file_bytes(self) -> int:
        """Size of the file, header included."""
        return len(_header(_ordered(self.entries), self.metadata)) + self.num_bytes


def write_shards(
    folder: Path, shards: Sequence[ShardEntries], progress: Callable[[int, int], None] = ignore_progress
) -> None:
    """Write the weights of a model: one file, or numbered files and their index. Shards without a tensor are left out.

    `progress` is told (bytes done, bytes in all) after each file.
    """
    kept = [shard for shard in shards if shard.entries]
    total = sum(shard.num_bytes for shard in kept)
    done = 0
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(kept, start=1):
        name = SINGLE_FILE if len(kept) == 1 else f"model-{number:05}-of-{len(kept):05}.safetensors"
        write_safetensors(folder / name, shard.entries, shard.metadata)
        weight_map.update(dict.fromkeys((entry.name for entry in shard.entries), name))
        done += shard.num_bytes
        progress(done, total)
    if len(kept) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n")


def write_safetensors(path: Path, entries: Sequence[TensorEntry], metadata: Mapping[str, str]) -> None:
    """Write one file: header length as little-endian u64, JSON header padded to 8 bytes, then the data without gaps.

    Tensors of wider dtypes come first, so that each begins at a multiple of its item size. ValueError if an entry
    writes another number of bytes than it says.
    """
    ordered = _ordered(entries)
    with path.open("wb") as file:
        file.write(_header(ordered, metadata))
        for entry in ordered:
            start = file.tell()
            entry.write(file)
            if file.tell() - start != entry.num_bytes:
                raise ValueError(f"{entry.name}: {file.tell() - start} bytes were written of {entry.num_bytes}")


def _ordered(entries: Sequence[TensorEntry]) -> list[TensorEntry]:
    return sorted(entries, key=lambda entry: -_item_size(entry.dtype))


def _header(ordered: Sequence[TensorEntry], metadata: Mapping[str, str]) -> bytes:
    """What stands before the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for entry in ordered:
        stop = offset + entry.num_bytes
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [offset, stop]}
        offset = stop
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded


def _item_size(dtype: str) -> int:
    """Bytes of one number. Dtypes that are not in `SAFETENSORS_DTYPES` are narrow ones."""
    return SAFETENSORS_DTYPES[dtype].itemsize if dtype in SAFETENSORS_DTYPES else 1
