"""An export as those see it who load it: its weights, in the class that its own config.json names.

transformers reads config.json. The modeling files beside the weights are this package's own, byte for byte, so that the
classes which they define need not be imported a second time.
"""

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint, open_checkpoint
from drop_ray.models.classes import base_model_class
from drop_ray.models.dropped import (
    attention_for,
    base_skeleton,
    build_skeleton,
    drop_lists_of,
    read_config,
    skeleton_of,
)
from drop_ray.models.export_formats import ExportFormat
from drop_ray.models.families import architecture_of
from drop_ray.models.nemotron_nas import read_nemotron_nas
from drop_ray.models.quantized_base.kinds import FIELD as STORED_FORM
from drop_ray.models.transformers_private import set_attention

CODE = Path(__file__).parent
BESIDE = re.compile(r"^from \.(\w+) import", re.MULTILINE)


def read_export(
    folder: Path, format: ExportFormat, source: Checkpoint, dtype: torch.dtype
) -> tuple[Checkpoint, PreTrainedModel]:
    """The checkpoint in `folder`, and its model without weights. UserError if no such model can be made of it.

    source: has the weights of a checkpoint without its own (`config-only`). Of a multimodal checkpoint, its language
    model is read, as drop_ray loads it.
    """
    opened = open_checkpoint(folder, weights=format != "config-only")
    _check_code(folder, opened.config if opened.whole is None else opened.whole.config)
    weights = replace(source, config=opened.config) if format == "config-only" else opened
    if opened.whole is not None:
        config, is_plain = read_config(opened), format == "plain"
        skeleton = base_skeleton(config, dtype) if is_plain else build_skeleton(config, drop_lists_of(opened), dtype)
        return weights, skeleton
    if format == "nemotron-nas":
        config, drops = read_nemotron_nas(folder)
        return weights, build_skeleton(config, drops, dtype)
    model_class = _class_of(opened)
    # As `from_pretrained`, which warns where code beside the weights has another model type.
    fields, _ = model_class.config_class.get_config_dict(folder)
    fields.pop(STORED_FORM, None)  # weights are given as they are read, in floats
    config = model_class.config_class.from_dict(fields)
    architecture = architecture_of(opened.config, opened.location)
    set_attention(config, attention_for(architecture))
    return weights, skeleton_of(model_class, config, dtype, architecture)


def _class_of(checkpoint: Checkpoint) -> Any:
    """The model class that config.json names: of the code beside it, or of transformers."""
    named = (checkpoint.config.get("auto_map") or {}).get("AutoModelForCausalLM")
    if named is None:
        return base_model_class(architecture_of(checkpoint.config, checkpoint.location))
    file, _, name = named.partition(".")
    return getattr(importlib.import_module(f"{__package__}.{file}"), name)


def _check_code(folder: Path, config: Any) -> None:
    """UserError unless the files that `auto_map` names, and those that they import, lie in the folder as here."""
    waiting = [named.partition(".")[0] for named in (config.get("auto_map") or {}).values()]
    seen: set[str] = set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        own, beside = CODE / f"{file}.py", folder / f"{file}.py"
        if not own.is_file() or not beside.is_file() or own.read_bytes() != beside.read_bytes():
            raise UserError(f"{beside} is not the modeling file of drop_ray that config.json asks for")
        waiting += BESIDE.findall(own.read_text())
