"""Baichuan-7B and Baichuan2-7B as Llama models, from which they differ in the form of two tensors only.

`W_pack` holds the rows of q, k and v. Baichuan 2 divides the rows of its output head by their L2 norm whenever it runs
(NormHead; Baichuan 2, arXiv 2309.10305). For Llama this is done once, to the stored rows.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.nn.functional import normalize
from transformers import LlamaConfig

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.files.stored_tensors import COPY_BYTES, ShardView, StoredTensor, byte_view
from drop_ray.models.loading import COMPUTED_TENSORS

ARCHITECTURES = ("BaichuanForCausalLM", "BaiChuanForCausalLM")
# Only Baichuan 2 has this vocabulary, and only Baichuan 2 has a NormHead.
NORM_HEAD_VOCABULARY = 125696
HEAD, PACKED = "lm_head.weight", "W_pack.weight"
SIZE_FIELDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
# Fields of the same name and meaning in both configurations. Any configuration may have drop lists.
OTHER_FIELDS = (
    *("hidden_act", "rms_norm_eps", "initializer_range", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "drop_attn_list", "drop_mlp_list"),
)
HIDDEN_SIZE_7B, HIDDEN_SIZE_13B = 4096, 5120


@dataclass(frozen=True)
class Part:
    """A tensor of the Llama checkpoint: rows of one of Baichuan's tensors."""

    source: str
    """Name of Baichuan's tensor."""
    start: int
    """Index of its first row."""
    shape: tuple[int, ...]
    """Shape of the Llama tensor."""
    unit_rows: bool = False
    """Whether each row is divided by its L2 norm."""


def is_baichuan(config: Mapping[str, Any]) -> bool:
    return any(name in ARCHITECTURES for name in config.get("architectures") or ())


def as_llama(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """The same model as a Llama checkpoint, whose tensors are made when they are read.

    `folder` has the tokenizer and the other small files of the Llama checkpoint. UserError if the model has no Llama
    equivalent, or if its tensors do not fit its config.json.
    """
    config = llama_config(checkpoint.config, checkpoint.location)
    last: dict[str, torch.Tensor] = {}
    shards = tuple(
        _LlamaShard(
            shard,
            {
                target: part
                for name, tensor in shard.tensors.items()
                for target, part in llama_parts(name, tensor.shape, config, checkpoint.location).items()
            },
            last,
        )
        for shard in checkpoint.shards
    )
    return replace(checkpoint, folder=folder, config=config, shards=shards)


def llama_config(config: Mapping[str, Any], location: str) -> dict[str, Any]:
    """The config.json of the Llama model. UserError if there is no such model."""
    lacking = [name for name in SIZE_FIELDS if not isinstance(config.get(name), int)]
    if lacking:
        raise UserError(f"{location}/config.json has no `{lacking[0]}`; give the config.json of the published model")
    if "quantization_config" in config:
        raise UserError(f"{location} is quantized already; give its 16-bit checkpoint")
    if _has_alibi(config):
        raise UserError(
            f"{location} is a 13B Baichuan: it knows positions by ALiBi, for which Llama has no equivalent; only the "
            "7B models, with rotary embeddings, can be imported"
        )
    if config.get("tie_word_embeddings") and config["vocab_size"] == NORM_HEAD_VOCABULARY:
        raise UserError(f"{location} ties its embeddings to a normalized head, which Llama cannot; untie them first")
    same = {name: config[name] for name in (*SIZE_FIELDS, *OTHER_FIELDS) if name in config}
    made = LlamaConfig(
        **same,
        num_key_value_heads=config["num_attention_heads"],
        max_position_embeddings=config.get("max_position_embeddings") or config.get("model_max_length"),
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        dtype=config.get("dtype") or config.get("torch_dtype") or "float32",
        architectures=["LlamaForCausalLM"],
    )
    written: dict[str, Any] = made.to_diff_dict()
    return written


def llama_parts(name: str, shape: tuple[int, ...], config: Mapping[str, Any], location: str) -> dict[str, Part]:
    """The Llama tensors that one of Baichuan's tensors becomes, by name. A buffer that Llama computes becomes none.

    `config` is that of the Llama model. UserError for a W_pack that does not hold three equal parts.
    """
    if COMPUTED_TENSORS.search(name):
        return {}
    if name == HEAD:
        return {name: Part(name, 0, shape, unit_rows=config["vocab_size"] == NORM_HEAD_VOCABULARY)}
    if not name.endswith(PACKED):
        return {name: Part(name, 0, shape)}
    num_rows = config["hidden_size"]
    if shape != (3 * num_rows, num_rows):
        raise UserError(
            f"{location}: {name} has shape {list(shape)}, but q, k and v of config.json's hidden_size take "
            f"{[3 * num_rows, num_rows]}; is it the right config.json?"
        )
    prefix = name.removesuffix(PACKED)
    return {
        f"{prefix}{kind}_proj.weight": Part(name, index * num_rows, (num_rows, num_rows))
        for index, kind in enumerate("qkv")
    }


def _has_alibi(config: Mapping[str, Any]) -> bool:
    """Whether it knows positions by ALiBi, as the 13B models do.

    Their configuration class has no `max_position_embeddings`, while that of the 7B models always has.
    """
    if config.get("alibi") or config["hidden_size"] == HIDDEN_SIZE_13B:
        return True
    return not config.get("max_position_embeddings") and config["hidden_size"] != HIDDEN_SIZE_7B


@dataclass(frozen=True)
class _LlamaShard(ShardView):
    """A file of Baichuan's weights, seen as one of Llama's.

    q, k and v follow one another and come from one tensor, which is therefore read once.
    """

    parts: Mapping[str, Part]
    """Llama's tensors, by name."""
    last: dict[str, torch.Tensor] = field(repr=False)
    """The tensor that was read last, by name. All shards share it, so that one tensor is held at a time."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        return {name: self._stored(part) for name, part in self.parts.items()}

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        return {name: torch.cat(list(self._blocks(part))) for name, part in self.parts.items() if name in names}

    def copy(self, name: str, target: BinaryIO) -> None:
        part = self.parts[name]
        if not part.unit_rows and part.shape == self.shard.tensors[part.source].shape:
            self.shard.copy(part.source, target)
            return
        for block in self._blocks(part):
            target.write(byte_view(block))

    def _stored(self, part: Part) -> StoredTensor:
        source = self.shard.tensors[part.source]
        if part.shape == source.shape:
            return source
        return StoredTensor(source.dtype, part.shape, source.num_bytes * part.shape[0] // source.shape[0])

    def _blocks(self, part: Part) -> Iterator[torch.Tensor]:
        """The rows of a part in blocks: small ones, computed in float32, if rows are divided by their norm."""
        if part.source not in self.last:
            self.last.clear()
            self.last.update(self.shard.read([part.source]))
        rows = self.last[part.source][part.start : part.start + part.shape[0]]
        if not part.unit_rows:
            yield rows
            return
        count = max(1, COPY_BYTES // (rows.shape[1] * torch.float32.itemsize))
        for start in range(0, len(rows), count):
            yield normalize(rows[start : start + count].to(torch.float32)).to(rows.dtype)
