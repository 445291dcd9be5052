"""A wrapper's checkpoint around a changed language model: the towers as they are, and the wrapper's own config.json."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.classes import base_config_class, base_model_class, dropped_model_class
from drop_ray.models.config_faults import said_of_config
from drop_ray.models.dropped import NOT_OF_THE_MODEL
from drop_ray.models.files.companions import without_code
from drop_ray.models.language_model import inner_name
from drop_ray.models.quantized_base.kinds import FIELD as STORED_FORM
from drop_ray.models.quantized_base.reading import name_as_read
from drop_ray.models.tensor_map import map_tensors
from drop_ray.models.tied_head import TIED
from drop_ray.models.transformers_private import model_of, with_floats
from drop_ray.models.wrappers import TEXT, wrapper_class

# Fields of a language model's config.json that in a wrapper the wrapper has.
OF_THE_WRAPPER = ("architectures", "model_type", "auto_map", TIED, STORED_FORM)


def whole_tensors(checkpoint: Checkpoint, kept: Mapping[str, str]) -> dict[str, str]:
    """The name of each written tensor, by its name in the wrapper's files.

    `kept` are those of the language model: the name of each that is written, by its name in the view.
    """
    names: dict[str, str] = {}
    for name in _whole(checkpoint).tensors:
        inner = inner_name(name)
        if inner is None:
            names[name] = name
        elif inner in kept:
            before, after = (each.removeprefix("model.") for each in (inner, kept[inner]))
            names[name] = name.removesuffix(before) + after
    return names


def whole_config(checkpoint: Checkpoint, alone: Mapping[str, Any]) -> dict[str, Any]:
    """The wrapper's config.json, its `text_config` changed as that of the language model, `alone`, is."""
    fields = without_code(_whole(checkpoint).config)
    before = checkpoint.config
    changed = {key: value for key, value in alone.items() if key not in before or before[key] != value}
    text = {key: value for key, value in fields[TEXT].items() if key in alone or key not in before}
    text |= {key: value for key, value in changed.items() if key not in OF_THE_WRAPPER}
    if TIED in text:
        text[TIED] = before[TIED]
    name = wrapper_class(fields)
    kind = {"architectures": [name], "model_type": base_config_class(name).model_type}
    made = {**fields, TEXT: text, TIED: before[TIED], **kind}
    return {key: value for key, value in made.items() if key not in ("_name_or_path", "custom_pipelines")}


def dropped_class_of(checkpoint: Checkpoint) -> Any:
    """The class of the wrapper without some sub-layers of its language model."""
    return dropped_model_class(wrapper_class(_whole(checkpoint).config))


def whole_skeleton(checkpoint: Checkpoint, config: Mapping[str, Any]) -> PreTrainedModel:
    """The wrapper of this config.json, dropped or not, without weights. UserError if its class makes none."""
    name, text = wrapper_class(config), config[TEXT]
    is_dropped = bool(text.get("drop_attn_list") or text.get("drop_mlp_list"))
    model_class = dropped_class_of(checkpoint) if is_dropped else base_model_class(name)
    fields = with_floats({key: value for key, value in config.items() if key not in NOT_OF_THE_MODEL})

    def build(fields: dict[str, Any]) -> PreTrainedModel:
        with init_empty_weights():
            return model_of(model_class, model_class.config_class(**copy.deepcopy(fields)), torch.bfloat16)

    with said_of_config(f"model.path: {checkpoint.location}/config.json makes no {name}", fields, build):
        model = build(fields)
    model.tie_weights()  # parameters that were made on the meta device are tied no more
    return model


def check_whole(checkpoint: Checkpoint, config: Mapping[str, Any], names: Iterable[str]) -> None:
    """UserError unless a checkpoint of this config.json and these tensors has every tensor of the wrapper's class.

    transformers would leave the others at random values, with no more than a warning. Of no tensors at all, config.json
    alone is looked at.
    """
    model, whole = whole_skeleton(checkpoint, config), _whole(checkpoint)
    names = {name_as_read(whole, stored) for stored in names}
    if not names:
        return
    tensor_map = map_tensors(model, names)
    made = {target for recipe in tensor_map.recipes.values() for target in recipe.targets}
    missing = model.state_dict(keep_vars=True).keys() - made - model.all_tied_weights_keys.keys()
    if missing:
        raise UserError(
            f"{checkpoint.location}: {len(missing)} tensors of a {wrapper_class(config)} are missing, the first is "
            f"{min(missing)}; is this checkpoint complete, and its config.json the right one?"
        )


def without_towers(checkpoint: Checkpoint) -> Checkpoint:
    """The language model as a checkpoint of its own, whose exports have it alone."""
    return replace(checkpoint, whole=None)


def _whole(checkpoint: Checkpoint) -> Checkpoint:
    assert checkpoint.whole is not None, "asked of wrappers alone"
    return checkpoint.whole
