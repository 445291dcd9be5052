"""A model as it lies in a folder, local or behind a URL: configuration, tokenizer files, weights tensor by tensor."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
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
from drop_ray.models.files.weight_hashes import weight_hashes
from drop_ray.models.language_model import find_language_model
from drop_ray.models.tied_head import settle_head
from drop_ray.models.transformers_private import without_floats
from drop_ray.models.wrappers import IMPORT, wrapper_class
from drop_ray.reading.files import read_bytes
from drop_ray.reading.json_text import parse_json_object
from drop_ray.store.hash_memory import HashMemory
from drop_ray.store.identity import json_sha256
from drop_ray.store.node_cache import NodeCache, cache_root

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
    hashes: HashMemory = field(compare=False)
    """What is known of the hashes of weight files."""
    whole: "Checkpoint | None" = field(default=None, kw_only=True)
    """The multimodal checkpoint of whose language model this is a view, as its files are; None for any other."""

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
        """sha256 over configuration, tokenizer files and all bytes of the weight files.

        The path is no part of it: a copy of a model is the same model, wherever it lies. Weights that were hashed on
        this node before are not read again. ValueError if the checkpoint was opened without its weights, since they
        are what a model is. UserError if a file changes while it is read.
        """
        if self.whole is not None:
            return self.whole.identity
        sources = {shard.file: shard.source for shard in self._weights}
        hashes = weight_hashes(sources, self.hashes, self.location)
        return json_sha256({**self._small_files, "weights": [hashes[name] for name in sorted(hashes)]})

    @property
    def outline(self) -> str:
        """As `identity`, but from names, shapes and sizes in place of the weights' bytes.

        It tells most models apart at once. Training checkpoints of one model have one outline.
        """
        if self.whole is not None:
            return self.whole.outline
        shards = [
            [shard.source.size, [[name, tensor.dtype, tensor.shape] for name, tensor in shard.tensors.items()]]
            for shard in self._weights
        ]
        return json_sha256({**self._small_files, "shards": shards})

    @property
    def tower_bytes(self) -> int:
        """Bytes of the tensors of a multimodal checkpoint that are no part of its language model."""
        stored = [sum(tensor.num_bytes for tensor in each.tensors.values()) for each in (self.whole or self, self)]
        return stored[0] - stored[1]

    @property
    def _weights(self) -> tuple[Shard, ...]:
        if not self.shards:
            raise ValueError(f"{self.location} was opened without its weights, which identify a model")
        return self.shards

    @property
    def _small_files(self) -> dict[str, Any]:
        """What identifies a model beside its weights."""
        config = {key: value for key, value in self.config.items() if key not in PROVENANCE_FIELDS}
        paths = {name: self.folder / name for name in TOKENIZER_FILES}
        tokenizer = {name: path.read_bytes() for name, path in paths.items() if path.is_file()}
        return {
            "config": without_floats(config),
            "tokenizer": {name: hashlib.sha256(data).hexdigest() for name, data in tokenizer.items()},
        }


def open_checkpoint(
    location: Path | str,
    options: Mapping[str, Any] | None = None,
    *,
    weights: bool = True,
    cache: NodeCache | None = None,
    hashes: HashMemory | None = None,
) -> Checkpoint:
    """Read the configuration and the weight files' headers of a model in a local folder or at `s3://bucket/prefix`.

    `options` are the arguments of the fsspec class of a URL. With `weights=False` nothing but config.json is needed,
    and the checkpoint has no tensors. A multimodal checkpoint is opened as its language model, with the `whole` beside.
    A model on S3 is first fetched into `cache` as a whole. Without a cache, ranges of its weights are read when they
    are asked for. `hashes` is by default that of the user's cache folder. UserError names what is missing or broken,
    and the remedy.
    """
    folder = _open_folder(str(location), options or {}, cache)
    config = _read_config(folder)
    shards = _open_shards(folder) if weights else ()
    memory = hashes if hashes is not None else HashMemory(cache_root(None))
    opened = as_language_model(Checkpoint(folder.location, folder.folder, config, shards, memory))
    return replace(opened, config=settle_head(opened.config, opened.shards, opened.location))


def as_language_model(checkpoint: Checkpoint) -> Checkpoint:
    """A view of the language model, whose tensors keep their bytes; its `whole` is the wrapper.

    A checkpoint that is no wrapper, or whose language model transformers has no class for, is given back as it is.
    """
    found = find_language_model(checkpoint.config, checkpoint.shards, checkpoint.location)
    if found is None:
        return checkpoint
    whole = replace(checkpoint, config=found.wrapper_config)
    return replace(checkpoint, config=found.config, shards=found.shards, whole=whole)


def check_no_wrapper(checkpoint: Checkpoint, what: str) -> None:
    """UserError for a wrapper, of whose language model alone `what` takes place."""
    if checkpoint.whole is not None:
        name = wrapper_class(checkpoint.whole.config)
        raise UserError(
            f"{what} is for language models alone, and {checkpoint.location} is a {name}; "
            f"{IMPORT.format(location=checkpoint.location)}"
        )


def open_weights(folder: Path) -> tuple[Shard, ...]:
    """The weight files of a local folder, whose config.json is not read. UserError names what is missing or broken."""
    return _open_shards(_open_folder(str(folder), {}, None))


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
        if any(folder.folder.glob("*.gguf")):
            raise UserError(
                f"model.path: {folder.location} holds GGUF files, which are quantized for llama.cpp; give the "
                "transformers checkpoint that they were made from"
            )
        raise UserError(
            f"model.path: {folder.location} has no config.json; give the folder that holds a transformers model"
        )
    what = f"model.path: {folder.location}/config.json"
    # Python wrote infinity as a bare word until transformers 5, and older checkpoints have it so.
    config = parse_json_object(read_bytes(file, what), what, allow_nan=True)
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
