"""A model folder as it lies on disk: configuration, tokenizer files and safetensors shards, read tensor by tensor.

Tensors are copied out of the file into memory of their own: a memory map would give each tensor the alignment of its
place in the file, and matrix kernels may sum in another order for another alignment.
"""

import hashlib
import json
import math
import mmap
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from drop_ray.errors import UserError
from drop_ray.identity import canonical_json

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
}
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# What decides how text becomes tokens, and so belongs to a model's identity.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
IDENTITY_BLOCK = 1 << 20
# Fields of config.json that say where it came from, not what the model is.
PROVENANCE_FIELDS = ("_name_or_path", "transformers_version")


@dataclass(frozen=True)
class TensorSpan:
    """Where a tensor lies: `start` and `stop` are byte offsets in `file`."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def num_bytes(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Shard:
    """The header of one safetensors file."""

    file: str
    tensors: Mapping[str, TensorSpan]
    metadata: Mapping[str, str]
    header: bytes
    data_start: int
    size: int


@dataclass(frozen=True)
class Checkpoint:
    """A local model folder with safetensors weights. Open with `open_checkpoint`."""

    folder: Path
    config: Mapping[str, Any]
    shards: tuple[Shard, ...]

    @cached_property
    def tensors(self) -> dict[str, TensorSpan]:
        return {name: span for shard in self.shards for name, span in shard.tensors.items()}

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The named tensors, copied, in the order in which they lie in their files."""
        spans = sorted(((self.tensors[name], name) for name in names), key=lambda item: (item[0].file, item[0].start))
        tensors: dict[str, torch.Tensor] = {}
        for shard in sorted({span.file for span, _ in spans}):
            # Unbuffered: one read straight into each tensor, no second copy.
            with (self.folder / shard).open("rb", buffering=0) as file:
                for span, name in spans:
                    if span.file == shard:
                        tensors[name] = _read_tensor(file, span)
        return tensors

    @cached_property
    def identity(self) -> str:
        """sha256 over configuration, tokenizer files, safetensors headers and three 1 MiB blocks of each shard.

        Never the path: a copy of a model is the same model. The blocks tell apart checkpoints of one training run,
        whose headers are equal, at a price that does not grow with the model.
        """
        config = {key: value for key, value in self.config.items() if key not in PROVENANCE_FIELDS}
        digest = hashlib.sha256(canonical_json(config).encode())
        for name in TOKENIZER_FILES:
            if (self.folder / name).is_file():
                digest.update(name.encode() + (self.folder / name).read_bytes())
        for shard in self.shards:
            digest.update(shard.header)
            length = shard.size - shard.data_start
            with (self.folder / shard.file).open("rb") as file:
                for offset in (0, max(0, length // 2 - IDENTITY_BLOCK // 2), max(0, length - IDENTITY_BLOCK)):
                    file.seek(shard.data_start + offset)
                    digest.update(file.read(IDENTITY_BLOCK))
        return digest.hexdigest()


def empty_pages(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialized tensor on memory pages of its own, which the system gets back as soon as it is released.

    The C library's heap keeps much of what is freed in between: a model streamed through it grew with every layer.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=dtype).reshape(shape)


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """Read a model folder's configuration and safetensors headers. UserError names what is missing or broken."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"model.path: {folder} is not a folder")
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise UserError(f"model.path: {folder} has no config.json; give the folder that holds a transformers model")
    try:
        config = json.loads(config_file.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"model.path: {config_file} is not JSON: {error}") from error
    return Checkpoint(folder, config, tuple(_read_header(folder, file) for file in _shard_files(folder)))


def _shard_files(folder: Path) -> list[str]:
    index_file = folder / INDEX_FILE
    if index_file.is_file():
        return sorted(set(json.loads(index_file.read_text())["weight_map"].values()))
    if (folder / SINGLE_FILE).is_file():
        return [SINGLE_FILE]
    found = sorted(path.name for path in folder.glob("*.bin")) or sorted(path.name for path in folder.iterdir())
    raise UserError(
        f"model.path: {folder} has no safetensors weights ({SINGLE_FILE} or {INDEX_FILE}); it holds {', '.join(found)}"
    )


def _read_header(folder: Path, name: str) -> Shard:
    path = folder / name
    if not path.is_file():
        raise UserError(f"model.path: {folder / INDEX_FILE} names {name}, which is not there; download it again")
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if length > size - 8:
            raise UserError(f"model.path: {path} is truncated inside its header; download it again")
        header = file.read(length)
    try:
        entries = json.loads(header)
    except ValueError as error:
        raise UserError(f"model.path: {path} is not a safetensors file: {error}") from error
    metadata = entries.pop("__metadata__", {})
    data_start = 8 + length
    tensors = {
        tensor: TensorSpan(
            name, entry["dtype"], tuple(entry["shape"]), *(data_start + offset for offset in entry["data_offsets"])
        )
        for tensor, entry in entries.items()
    }
    end = max((span.stop for span in tensors.values()), default=data_start)
    if end > size:
        raise UserError(f"model.path: {path} is truncated: {size} bytes of {end}; download it again")
    return Shard(name, tensors, metadata, header, data_start, size)


def _read_tensor(file: Any, span: TensorSpan) -> torch.Tensor:
    if span.dtype not in SAFETENSORS_DTYPES:
        raise UserError(f"model.path: {span.file} holds {span.dtype} tensors; give a checkpoint in BF16, F16 or F32")
    tensor = empty_pages(span.shape, SAFETENSORS_DTYPES[span.dtype])
    view = tensor.reshape(-1).view(torch.uint8).numpy().data if span.num_bytes else memoryview(b"")
    file.seek(span.start)
    done = 0
    while done < span.num_bytes:
        count = file.readinto(view[done:])
        if not count:
            raise UserError(f"model.path: {span.file} ended {span.num_bytes - done} bytes early; download it again")
        done += count
    return tensor
