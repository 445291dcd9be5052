"""A model as it lies in a folder, local or behind a URL: configuration, tokenizer files, weights tensor by tensor."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from drop_ray.errors import UserError
from drop_ray.models.config_fields import check_fields
from drop_ray.models.files.cached_folder import cached_folder
from drop_ray.models.files.companions import TOKENIZER_FILES
from drop_ray.models.files.model_folder import LocalFolder, LocalSource, ModelFolder
from drop_ray.models.files.remote_folder import open_remote_folder
from drop_ray.models.files.safetensors_file import open_safetensors
from drop_ray.models.files.stored_tensors import Shard, StoredTensor
from drop_ray.models.files.torch_file import open_torch_file
from drop_ray.models.files.weight_files import find_weights
from drop_ray.models.tied_head import settle_head
from drop_ray.reading.files import read_bytes
from drop_ray.reading.json_text import parse_json_object
from drop_ray.store.identity import canonical_json
from drop_ray.store.node_cache import NodeCache

# Fields of config.json that say where it came from, not what the model is.
PROVENANCE_FIELDS = ("_name_or_path", "transformers_version")


@dataclass(frozen=True)
class Checkpoint:
    """A model's files, opened and checked by `open_checkpoint`."""

    location: str
    """The path or URL that the user gave, for messages."""
    folder: Path
    """A local folder with the configuration and the tokenizer files, but not always with the weights."""
    config: Mapping[str, Any]
    """The content of config.json. `tie_word_embeddings` is as the weights have it."""
    shards: tuple[Shard, ...]
    """The weight files; none if the checkpoint was opened without its weights."""

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        return {name: tensor for shard in self.shards for name, tensor in shard.tensors.items()}

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The named tensors, copied, in the order in which they lie in their files. KeyError for an unknown name."""
        wanted = set(names)
        if not wanted <= self.tensors.keys():
            raise KeyError(min(wanted - self.tensors.keys()))
        tensors: dict[str, torch.Tensor] = {}
        for shard in self.shards:
            inside = wanted & shard.tensors.keys()
            if inside:
                tensors |= shard.read(inside)
        return tensors

    @cached_property
    def identity(self) -> str:
        """sha256 over configuration, tokenizer files, headers of the weight files and three 1 MiB blocks of each.

        The path is no part of it: a copy of a model is the same model, wherever it lies. The blocks tell apart
        checkpoints of one training run, whose headers are equal, at a cost that does not grow with the model.
        ValueError if the checkpoint was opened without its weights, since they are what a model is.
        """
        if not self.shards:
            raise ValueError(f"{self.location} was opened without its weights, which identify a model")
        config = {key: value for key, value in self.config.items() if key not in PROVENANCE_FIELDS}
        digest = hashlib.sha256(canonical_json(config).encode())
        for name in TOKENIZER_FILES:
            if (self.folder / name).is_file():
                digest.update(name.encode() + (self.folder / name).read_bytes())
        for shard in self.shards:
            digest.update(shard.header)
            for block in shard.sample_blocks():
                digest.update(block)
        return digest.hexdigest()


def open_checkpoint(
    location: Path | str,
    options: Mapping[str, Any] | None = None,
    *,
    weights: bool = True,
    cache: NodeCache | None = None,
) -> Checkpoint:
    """Read the configuration and the weight files' headers of a model in a local folder or at `s3://bucket/prefix`.

    `options` are the arguments of the fsspec class of a URL. With `weights=False` nothing but config.json is needed,
    and the checkpoint has no tensors. A model on S3 is first fetched into `cache` as a whole. Without a cache, ranges
    of its weights are read when they are asked for. UserError names what is missing or broken, and the remedy.
    """
    folder = _open_folder(str(location), options or {}, cache)
    config = _read_config(folder)
    shards = _open_shards(folder) if weights else ()
    return Checkpoint(folder.location, folder.folder, settle_head(config, shards, folder.location), shards)


def _open_folder(location: str, options: Mapping[str, Any], cache: NodeCache | None) -> ModelFolder:
    if "://" in location:
        remote = open_remote_folder(location, options)
        return cached_folder(remote, cache) if cache is not None and location.startswith("s3://") else remote
    if not Path(location).is_dir():
        raise UserError(f"model.path: {location} is not a folder")
    return LocalFolder(Path(location))


def _read_config(folder: ModelFolder) -> dict[str, Any]:
    file = folder.folder / "config.json"
    if not file.exists():
        raise UserError(
            f"model.path: {folder.location} has no config.json; give the folder that holds a transformers model"
        )
    what = f"model.path: {folder.location}/config.json"
    config = parse_json_object(read_bytes(file, what), what)
    check_fields(config, what)
    return config


def _open_shards(folder: ModelFolder) -> tuple[Shard, ...]:
    files = find_weights(folder)
    shards = tuple(_open_shard(folder, file) for file in sorted(files))
    owners: dict[str, str] = {}
    for shard in shards:
        _check_shard(folder, shard, files[shard.file], owners)
    return shards


def _open_shard(folder: ModelFolder, file: str) -> Shard:
    source = folder.source(file)
    if file.endswith(".safetensors"):
        return open_safetensors(file, source)
    if isinstance(source, LocalSource):
        return open_torch_file(file, source)
    raise UserError(
        f"model.path: {source.location} is a PyTorch file, of which parts cannot be read over the network; convert the "
        "model to safetensors, or copy it to a folder"
    )


def _check_shard(folder: ModelFolder, shard: Shard, promised: Collection[str], owners: dict[str, str]) -> None:
    lacking = sorted(set(promised) - shard.tensors.keys())
    if lacking:
        raise UserError(
            f"model.path: {folder.location}/{shard.file} lacks {lacking[0]}, which the index says is in it; "
            "download both again"
        )
    for name in shard.tensors:
        if name in owners:
            raise UserError(
                f"model.path: {folder.location}: {name} is both in {owners[name]} and in {shard.file}; "
                "download the model into an empty folder"
            )
        owners[name] = shard.file
