"""The language model of a multimodal checkpoint, as a checkpoint of its own: the same tensors under its own names.

transformers reads a wrapper's files into the language model's class without a fault, and leaves every tensor at random
values where their names differ. Here each is found, or whoever loads the model ends with an error.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import torch

from drop_ray.errors import UserError
from drop_ray.models.classes import base_config_class
from drop_ray.models.config_faults import said_of_config
from drop_ray.models.config_fields import ROPE
from drop_ray.models.files.stored_tensors import Shard, ShardView, StoredTensor
from drop_ray.models.quantized_base.kinds import FIELD as STORED_FORM
from drop_ray.models.tied_head import HEAD, TIED
from drop_ray.models.transformers_private import config_class_name, with_floats
from drop_ray.models.wrappers import EQUALS, TEXT, is_wrapper, language_model_class, wrapper_class

# What precedes the language model's names in the two layouts that transformers has had.
INSIDE = re.compile(r"^(?:model\.)?language_model\.(?:model\.)?")
# The layout of Qwen2-VL and Qwen2.5-VL, whose tower is `visual`.
BESIDE_TOWER = ("model.layers.", "model.embed_tokens.", "model.norm.")
HEAD_MODULE = HEAD.removesuffix(".weight")
# Fields of the wrapper that hold for its language model, and those that do if its own say nothing else.
OUTER_FIELDS = ("dtype", "torch_dtype")
DEFAULTS = ("bos_token_id", "eos_token_id", "pad_token_id")
# Fields of the wrapper itself where config.json has those of the language model beside them (Qwen2.5-VL on the hub).
NOT_OF_TEXT = re.compile(
    r"architectures|model_type|auto_map|drop_ray|vision_config|(image|video|vision)_\w*token_id|(torch_)?dtype|"
    r"transformers_version|quantization_config|tie_word_embeddings"
)
# What says on which axis an image's positions turn.
AXES = ("mrope_section", "mrope_interleaved")


@dataclass(frozen=True)
class InnerModel:
    """The language model of a wrapper."""

    config: dict[str, Any]
    """Its config.json."""
    shards: "tuple[InnerShard, ...]"
    """Its tensors, whose bytes are those of the wrapper's files."""
    wrapper_config: dict[str, Any]
    """The wrapper's config.json, with a `text_config` that names its type."""


def find_language_model(config: Mapping[str, Any], shards: Sequence[Shard], location: str) -> InnerModel | None:
    """What of a checkpoint is its language model; None if it is no wrapper, or transformers has no class for that."""
    if not is_wrapper(config):
        return None
    fields = _nested(config)
    inner_config = _language_model_config(fields, location)
    if inner_config is None:
        return None
    return InnerModel(inner_config, tuple(InnerShard(shard) for shard in shards), fields)


def inner_name(name: str) -> str | None:
    """A tensor's or module's name in the language model alone; None for what is no part of it, such as a tower."""
    renamed, count = INSIDE.subn("model.", name)
    if renamed.startswith(f"model.{HEAD_MODULE}"):
        return renamed.removeprefix("model.")
    return renamed if count or name.startswith((HEAD_MODULE, *BESIDE_TOWER)) else None


def _nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """The wrapper's config.json with a `text_config`, which names its type."""
    text = config.get(TEXT)
    if text is None:
        text = {field: value for field, value in config.items() if not NOT_OF_TEXT.fullmatch(field)}
        config = {field: value for field, value in config.items() if field not in text}
    return {**config, TEXT: {**text, "model_type": text.get("model_type") or _type_inside(config)}}


def _type_inside(config: Mapping[str, Any]) -> str | None:
    """The type of the language model in a class of wrappers; None if there is no such class, or it has several."""
    try:
        parts = base_config_class(wrapper_class(config)).sub_configs
    except UserError:
        return None
    return getattr(parts.get(TEXT), "model_type", None) or None


def _language_model_config(config: Mapping[str, Any], location: str) -> dict[str, Any] | None:
    """The config.json of the language model alone; None if transformers has no class for it."""
    text = config[TEXT]
    name = language_model_class(text["model_type"])
    if name is None:
        return None
    if text["model_type"] in EQUALS:
        text = _as_equal(text, location)
    made: dict[str, Any] = {
        **{field: config[field] for field in DEFAULTS if config.get(field) is not None},
        **text,
        **{field: config[field] for field in OUTER_FIELDS if config.get(field) is not None},
        TIED: _says_tied(config),
        "architectures": [name],
    }
    if config.get(STORED_FORM):
        made[STORED_FORM] = {field: _inner_modules(value) for field, value in config[STORED_FORM].items()}
    return made


def _as_equal(text: Mapping[str, Any], location: str) -> dict[str, Any]:
    """The fields as the equal type has them. Defaults are those of the language model's own class."""
    import transformers

    config_class = getattr(transformers, config_class_name(text["model_type"]) or "")
    fields = with_floats({field: value for field, value in text.items() if field != "model_type"})
    with said_of_config(f"model.path: {location}/config.json: {TEXT}", fields, lambda rest: config_class(**rest)):
        stated = config_class(**fields).to_dict()
    for field in ROPE:
        if stated.get(field):
            stated[field] = {key: value for key, value in stated[field].items() if key not in AXES}
    return {**stated, "model_type": EQUALS[text["model_type"]]}


def _says_tied(config: Mapping[str, Any]) -> bool:
    """Whether the head is the embedding, by the wrapper's config.json, or else by the default of its class."""
    for fields in (config, config[TEXT]):
        if fields.get(TIED) is not None:
            return bool(fields[TIED])
    try:
        return bool(getattr(base_config_class(wrapper_class(config)), TIED, False))
    except UserError:  # a wrapper that transformers does not have, whose language model it has
        return False


def _inner_modules(value: Any) -> Any:
    """A list of modules that are not quantized, as the language model names them; any other value as it is."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return value
    names = [name if name.startswith("re:") or "." not in name else inner_name(name) for name in value]
    return [name for name in names if name is not None]


@dataclass(frozen=True)
class InnerShard(ShardView):
    """A file of a wrapper's weights, of which those of the language model are seen."""

    @cached_property
    def _sources(self) -> dict[str, str]:
        return {inner: name for name in self.shard.tensors if (inner := inner_name(name)) is not None}

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        return {inner: self.shard.tensors[name] for inner, name in self._sources.items()}

    def read(self, names: Collection[str]) -> dict[str, torch.Tensor]:
        inner_names = {self._sources[name]: name for name in names}
        return {inner_names[name]: tensor for name, tensor in self.shard.read([*inner_names]).items()}

    def copy(self, name: str, target: BinaryIO) -> None:
        self.shard.copy(self._sources[name], target)
