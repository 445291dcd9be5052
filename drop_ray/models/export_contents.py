"""What a checkpoint of a plan consists of: its config.json, and where each of its tensors is taken from."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models import modeling_dropped, nemotron_nas, split_experts, sublayers
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import build_skeleton, read_config
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import DropLists
from drop_ray.models.files.companions import without_code
from drop_ray.models.files.safetensors_writer import ShardEntries, TensorEntry
from drop_ray.models.files.stored_tensors import SAFETENSORS_DTYPES, Shard
from drop_ray.models.finite import FiniteFile
from drop_ray.models.language_model import inner_name
from drop_ray.models.loading import Weights, sublayer_prefixes
from drop_ray.models.nemotron_nas import nemotron_nas_config
from drop_ray.models.plain import plain_checkpoint
from drop_ray.models.quantized_base.module_lists import without_modules
from drop_ray.models.quantized_base.reading import name_as_read
from drop_ray.models.whole import dropped_class_of, whole_config, whole_tensors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """What a checkpoint of one export format consists of."""

    config: Mapping[str, Any]
    """Fields of config.json."""
    files: list[ShardEntries]
    """What is written to each file of weights."""
    code: frozenset[Path] = frozenset()
    """Modeling files that are copied beside the weights."""


def check_full(checkpoint: Checkpoint, field: str) -> None:
    """Raise UserError unless the checkpoint has all tensors of the base, as a model of the family's own type must.

    `field` is the setting that asked for it, for the message.
    """
    try:
        Weights(build_skeleton(read_config(checkpoint), DropLists(), torch.bfloat16, "eager"), checkpoint)
    except UserError as error:
        raise UserError(
            f"{field}: llm-drop has all tensors of the model ({error}); export it from the base model"
        ) from error


def contents_of(checkpoint: Checkpoint, drops: DropLists, format: ExportFormat) -> Contents:
    """Of the model without all sub-layers of `drops`. UserError if it has no checkpoint in that format."""
    config, names, code = _language_model(checkpoint, drops, format)
    if checkpoint.whole is None:
        return Contents(config, renamed_tensors(checkpoint, names), code)
    model_class, config = dropped_class_of(checkpoint), whole_config(checkpoint, config)
    if format != "plain":
        config["auto_map"] = _auto_map(model_class, "AutoModelForImageTextToText")
    if format == "dropped":
        config |= _dropped_type(model_class)
    return Contents(config, renamed_tensors(checkpoint, whole_tensors(checkpoint, names) if names else {}), code)


def _language_model(
    checkpoint: Checkpoint, drops: DropLists, format: ExportFormat
) -> tuple[dict[str, Any], dict[str, str], frozenset[Path]]:
    """Of a checkpoint of the language model alone: config.json, the new name of each tensor, and modeling files."""
    skeleton = build_skeleton(read_config(checkpoint), drops, torch.bfloat16, "eager")
    weights = Weights(skeleton, checkpoint)
    left_out = weights.dropped | weights.ignored | weights.tied
    kept = [name for name in checkpoint.tensors if name_as_read(checkpoint, name) not in left_out]
    if format == "plain":
        plain = plain_checkpoint(checkpoint, drops)
        names = {name: renamed for name in kept if (renamed := plain.name_of(name))}
        return {**plain.config, **no_further_layers(checkpoint)}, names, frozenset()
    if format == "nemotron-nas":
        return nemotron_nas_config(checkpoint, drops), {name: name for name in kept}, frozenset({nemotron_nas.CODE})
    config, code = _config_with_lists(checkpoint, skeleton, drops), _modeling_files(skeleton)
    if format == "dropped":
        config |= _dropped_type(type(skeleton)) | no_further_layers(checkpoint)
        config |= without_modules(
            checkpoint.config, f"{skeleton.base_model_prefix}.", sublayer_prefixes(skeleton, drops)
        )
        return config, {name: name for name in kept}, code
    if format == "llm-drop":
        check_full(checkpoint, "--format")
    tensors = (
        [name for name in checkpoint.tensors if name_as_read(checkpoint, name) not in weights.tied]
        if format == "llm-drop"
        else []
    )
    return {**config, **_family_type(checkpoint)}, {name: name for name in tensors}, code


def _config_with_lists(checkpoint: Checkpoint, skeleton: PreTrainedModel, drops: DropLists) -> dict[str, Any]:
    """The base's config.json with the drop lists, and with the modeling files that understand them."""
    fields = {key: without_code(value) for key, value in checkpoint.config.items()}
    return {
        **{key: value for key, value in fields.items() if key not in ("_name_or_path", "custom_pipelines")},
        "auto_map": _auto_map(type(skeleton), "AutoModelForCausalLM"),
        "drop_attn_list": list(drops.attn),
        "drop_mlp_list": list(drops.mlp),
        **({"returned_values": returned} if (returned := skeleton.config.returned_values) else {}),
    }


def _dropped_type(model_class: Any) -> dict[str, Any]:
    """A model type of its own, so that no program takes a checkpoint that lacks tensors for a complete one."""
    return {"model_type": model_class.config_class.model_type, "architectures": [model_class.__name__]}


def no_further_layers(checkpoint: Checkpoint) -> dict[str, Any]:
    """Leave out the layers that predict further tokens (DeepSeek-V3).

    They lie behind the decoder layers, and were trained on the output of all of these.
    """
    count = checkpoint.config.get("num_nextn_predict_layers")
    if not count:
        return {}
    logger.warning("export leaves out the %d layers that predict further tokens", count)
    return {"num_nextn_predict_layers": 0}


def _family_type(checkpoint: Checkpoint) -> dict[str, Any]:
    config = read_config(checkpoint)
    return {"model_type": config.model_type, "architectures": config.architectures}


def _auto_map(model_class: Any, auto_class: str) -> dict[str, str]:
    return {"AutoConfig": _remote_name(model_class.config_class), auto_class: _remote_name(model_class)}


def _remote_name(made: type) -> str:
    """A class as `auto_map` names it: the file beside the weights, then the class."""
    return f"{made.__module__.rpartition('.')[2]}.{made.__name__}"


def _modeling_files(skeleton: PreTrainedModel) -> frozenset[Path]:
    own = {sys.modules[type(made).__module__] for made in (skeleton, skeleton.config)}
    return frozenset(Path(str(module.__file__)) for module in {*own, modeling_dropped, split_experts, sublayers})


def renamed_tensors(checkpoint: Checkpoint, names: Mapping[str, str]) -> list[ShardEntries]:
    """The tensors taken from each weight file, under their new names, to be copied byte for byte."""
    whole = checkpoint.whole
    if whole is None:
        return [_entries(shard, {name: (shard, name) for name in shard.tensors}, names) for shard in checkpoint.shards]
    # The language model's are taken from the view, which may have other values.
    return [
        _entries(
            shard, {name: (inner, own) if (own := inner_name(name)) else (shard, name) for name in shard.tensors}, names
        )
        for shard, inner in zip(whole.shards, checkpoint.shards, strict=True)
    ]


def _entries(shard: Shard, sources: Mapping[str, tuple[Shard, str]], names: Mapping[str, str]) -> ShardEntries:
    """What is written of a file. `sources`: for each of its tensors, where it is taken from and its name there."""
    return ShardEntries(
        [
            TensorEntry(names[name], tensor.dtype, tensor.shape, tensor.num_bytes, partial(_copy, *sources[name]))
            for name, tensor in shard.tensors.items()
            if name in names
        ],
        shard.metadata,
    )


def _copy(shard: Shard, name: str, target: BinaryIO) -> None:
    dtype = SAFETENSORS_DTYPES.get(shard.tensors[name].dtype)
    # It is written to, and nothing else of a file is asked of it.
    shard.copy(name, target if dtype is None else cast(BinaryIO, FiniteFile(target, name, dtype)))
