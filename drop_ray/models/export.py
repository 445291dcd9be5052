"""Writes a plan's checkpoint in one of the `EXPORT_FORMATS`: the base's tensors, copied in small pieces to safetensors.

No tensor is decoded. So the memory needed does not grow with the model, and every kept byte is the base's own.
"""

import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models import modeling_dropped
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import build_skeleton, drop_lists_of, read_config
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import DropLists
from drop_ray.models.files.companions import companion_files, copy_companion, without_code
from drop_ray.models.files.safetensors_writer import ShardEntries, TensorEntry, write_shards
from drop_ray.models.files.stored_tensors import SAFETENSORS_DTYPES, Shard
from drop_ray.models.finite import FiniteFile
from drop_ray.models.loading import Weights
from drop_ray.models.plain import plain_checkpoint
from drop_ray.text.progress import ignore_progress

logger = logging.getLogger(__name__)

MODEL_CARD = "README.md"


@dataclass(frozen=True)
class _Contents:
    """What a checkpoint of one export format consists of."""

    config: Mapping[str, Any]
    """Fields of config.json."""
    tensors: Mapping[str, str]
    """Name of each written tensor, by its name in the checkpoint."""
    code: frozenset[Path] = frozenset()
    """Modeling files that are copied beside the weights."""


def export_checkpoint(
    checkpoint: Checkpoint,
    drops: DropLists,
    output: Path,
    *,
    format: ExportFormat = "dropped",
    provenance: Mapping[str, Any] | None = None,
    card: str | None = None,
    progress: Callable[[int, int], None] = ignore_progress,
) -> None:
    """Write the model without the sub-layers of `drops` to the new folder `output`.

    `provenance` goes into config.json as `drop_ray`. `card`, what was done to the weights, is added to the model card.
    `progress` is told (bytes done, bytes in all).
    Raises UserError if the checkpoint does not fit its config.json, if the model without `drops` has no such format, if
    a file beside the weights is linked from elsewhere, or if `output` exists and is not empty. Raises NotFiniteError if
    a tensor that is kept holds NaN or infinity.
    """
    check_new_folder(output)
    companions = companion_files(checkpoint.folder)
    contents = _contents(checkpoint, drop_lists_of(checkpoint).union(drops), format)
    output.mkdir(parents=True, exist_ok=True)
    write_shards(output, _renamed_tensors(checkpoint, contents.tensors), progress)
    config = {**contents.config, "use_cache": True, **({"drop_ray": dict(provenance)} if provenance else {})}
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for path in companions:
        copy_companion(path, output)
    for path in contents.code:
        shutil.copyfile(path, output / path.name)
    if card is not None:
        _add_to_card(output / MODEL_CARD, card)


def check_new_folder(output: Path) -> None:
    """UserError unless a checkpoint can be written to `output`: it does not exist yet, or is an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is a file, or is not empty; give a new folder")


def _add_to_card(path: Path, text: str) -> None:
    """The base's card comes first: the hub reads the fields at its beginning."""
    before = path.read_bytes() + b"\n" if path.exists() else b""
    path.write_bytes(before + f"## Changed by drop_ray\n\n{text}\n".encode())


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


def _contents(checkpoint: Checkpoint, drops: DropLists, format: ExportFormat) -> _Contents:
    skeleton = build_skeleton(read_config(checkpoint), drops, torch.bfloat16, "eager")
    weights = Weights(skeleton, checkpoint)
    kept = [name for name in checkpoint.tensors if name not in weights.dropped | weights.ignored | weights.tied]
    if format == "plain":
        plain = plain_checkpoint(checkpoint, drops)
        names = {name: renamed for name in kept if (renamed := plain.name_of(name))}
        return _Contents({**plain.config, **_no_further_layers(checkpoint)}, names)
    config, code = _config_with_lists(checkpoint, skeleton, drops), _modeling_files(skeleton)
    if format == "dropped":
        config |= _dropped_type(skeleton) | _no_further_layers(checkpoint)
        return _Contents(config, {name: name for name in kept}, code)
    if format == "llm-drop":
        check_full(checkpoint, "--format")
    tensors = [name for name in checkpoint.tensors if name not in weights.tied] if format == "llm-drop" else []
    return _Contents({**config, **_family_type(checkpoint)}, {name: name for name in tensors}, code)


def _config_with_lists(checkpoint: Checkpoint, skeleton: PreTrainedModel, drops: DropLists) -> dict[str, Any]:
    """The base's config.json with the drop lists, and with the modeling files that understand them."""
    fields = {key: without_code(value) for key, value in checkpoint.config.items()}
    return {
        **{key: value for key, value in fields.items() if key not in ("_name_or_path", "custom_pipelines")},
        "auto_map": {
            "AutoConfig": _remote_name(type(skeleton.config)),
            "AutoModelForCausalLM": _remote_name(type(skeleton)),
        },
        "drop_attn_list": list(drops.attn),
        "drop_mlp_list": list(drops.mlp),
    }


def _dropped_type(skeleton: PreTrainedModel) -> dict[str, Any]:
    """A model type of its own, so that no program takes a checkpoint that lacks tensors for a complete one."""
    return {"model_type": type(skeleton.config).model_type, "architectures": [type(skeleton).__name__]}


def _no_further_layers(checkpoint: Checkpoint) -> dict[str, Any]:
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


def _remote_name(made: type) -> str:
    """A class as `auto_map` names it: the file beside the weights, then the class."""
    return f"{made.__module__.rpartition('.')[2]}.{made.__name__}"


def _modeling_files(skeleton: PreTrainedModel) -> frozenset[Path]:
    modules = {modeling_dropped.__name__, type(skeleton).__module__, type(skeleton.config).__module__}
    return frozenset(Path(str(sys.modules[module].__file__)) for module in modules)


def _renamed_tensors(checkpoint: Checkpoint, names: Mapping[str, str]) -> list[ShardEntries]:
    """The tensors taken from each weight file, under their new names, to be copied byte for byte."""
    return [
        ShardEntries(
            [
                TensorEntry(names[name], tensor.dtype, tensor.shape, tensor.num_bytes, partial(_copy, shard, name))
                for name, tensor in shard.tensors.items()
                if name in names
            ],
            shard.metadata,
        )
        for shard in checkpoint.shards
    ]


def _copy(shard: Shard, name: str, target: BinaryIO) -> None:
    dtype = SAFETENSORS_DTYPES.get(shard.tensors[name].dtype)
    # It is written to, and nothing else of a file is asked of it.
    shard.copy(name, target if dtype is None else cast(BinaryIO, FiniteFile(target, name, dtype)))
