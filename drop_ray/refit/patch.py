"""A patch: files of tensors that take the place of a checkpoint's while that is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from drop_ray.models.files.model_folder import LocalSource
from drop_ray.models.files.safetensors_file import SafetensorsShard, open_safetensors
from drop_ray.models.files.safetensors_writer import TensorEntry, write_safetensors
from drop_ray.models.files.stored_tensors import SAFETENSORS_DTYPES, byte_view

DTYPE_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}


def layer_file(layer: int) -> str:
    """Name of the file with the changed tensors of a layer."""
    return f"layer-{layer:05}.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors, which are on the host, as one safetensors file."""
    write_safetensors(path, [_entry(name, tensor.contiguous()) for name, tensor in tensors.items()], {})


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file of a patch by their names."""
    shard = open_safetensors(path.name, LocalSource(path))
    return shard.read(shard.tensors.keys())


@dataclass(frozen=True)
class PatchTensors:
    """The tensors in a folder of such files, to be put over a checkpoint's."""

    folder: Path
    """The folder, which stays as it is while this is used."""

    def edits(self, name: str) -> bool:
        return name in self._owners

    def edit(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor of that name in the patch; `tensor`, the checkpoint's own, has the same shape and dtype."""
        del tensor
        return self._owners[name].read([name])[name]

    @cached_property
    def _owners(self) -> dict[str, SafetensorsShard]:
        shards = [open_safetensors(path.name, LocalSource(path)) for path in sorted(self.folder.glob("*.safetensors"))]
        return {name: shard for shard in shards for name in shard.tensors}


def _entry(name: str, tensor: torch.Tensor) -> TensorEntry:
    view = byte_view(tensor)
    return TensorEntry(
        name, DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), view.nbytes, lambda file: _write(file, view)
    )


def _write(file: object, view: memoryview) -> None:
    file.write(view)  # type: ignore[attr-defined]
