"""The plain checkpoint of a model without whole blocks: the family's model with fewer layers, without any code of ours.

The kept layers are numbered anew, and settings that config.json lists by layer are renumbered with them. To prove that
nothing else changes, both models are built without weights, and every kept layer is compared with itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from drop_ray.errors import UserError
from drop_ray.models.candidates import layers_of
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.classes import base_config_class
from drop_ray.models.decoder import layers_path
from drop_ray.models.dropped import build_skeleton, decoder_layers, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.files.companions import without_code
from drop_ray.models.layer_settings import setting_that_differs
from drop_ray.models.quantized_base.kinds import FIELD as STORED_FORM
from drop_ray.models.wrappers import wrapper_class

# Fields that list layers by number.
LAYER_NUMBERS = ("mlp_only_layers", "moe_layers", "attn_layer_indices")
# Fields that say how many of the first layers are of one kind, or at which layer another begins.
FIRST_LAYERS = ("first_k_dense_replace", "max_window_layers", "num_dense_layers", "moe_layer_start_index")
# Fields that say at which layer a kind ends; -1 is the last.
ENDS = ("moe_layer_end_index",)
# Fields that say how many of the last layers are of one kind.
LAST_LAYERS = ("num_kv_shared_layers",)
# Fields that have a letter for each layer.
LETTERS = ("hybrid_override_pattern",)
# Endings of fields whose lists are not by layer, though they may happen to have as many entries as there are layers.
NOT_OF_LAYERS = ("architectures", "_token_id", "_token_ids")
# Fields of config.json about drops and provenance, which a plain checkpoint does not have.
OTHER_FORMATS_FIELDS = ("drop_attn_list", "drop_mlp_list", "returned_values", "drop_ray", "_name_or_path")
# Features of an image, one for each of the first layers, that are added to the state behind it (arXiv 2406.04334).
DEEPSTACK = "deepstack_visual_indexes"
LAYER_MODULE = re.compile(r"((?:[\w.]*\.)?(?:layers|h)\.)(\d+)((?:\.[\w.]+)?)")
LAYER_TENSOR = re.compile(r"((?:.*?\.)?(?:layers|h)\.)(\d+)(\..+)")


@dataclass(frozen=True)
class PlainCheckpoint:
    """The config and the layers of a plain checkpoint that is made from another one."""

    config: Mapping[str, Any]
    """Fields of the plain checkpoint's config.json."""
    kept: tuple[int, ...]
    """The old number of each kept layer, in the new order."""

    def name_of(self, tensor: str) -> str | None:
        """The name that a file tensor gets in the plain checkpoint; None if it belongs to a dropped layer."""
        match = LAYER_TENSOR.fullmatch(tensor)
        if match is None:
            return tensor
        prefix, layer, name = match.groups()
        return f"{prefix}{self.kept.index(int(layer))}{name}" if int(layer) in self.kept else None


def plain_checkpoint(checkpoint: Checkpoint, drops: DropLists) -> PlainCheckpoint:
    """Work out the plain checkpoint, for which no weights are needed. UserError, with the reason, if there is none.

    `drops` names all sub-layers that are to be absent, also those that the checkpoint lacks already.
    """
    if checkpoint.whole is not None:
        _check_towers(checkpoint.whole.config, drops)
    own = without_code(checkpoint.config)
    fields = {field: value for field, value in own.items() if field not in OTHER_FORMATS_FIELDS}
    base = replace(checkpoint, config=fields)
    config = read_config(base)
    layers = layers_of(build_skeleton(config, DropLists(), torch.bfloat16, "eager"))
    without, gone = drops.union(layers.absent), {*drops.attn, *drops.mlp}
    if not gone <= {*without.attn} & {*without.mlp}:
        raise _refusal("it can lack whole blocks only, and the plan drops attention or MLP alone")
    kept = tuple(layer for layer in range(config.num_hidden_layers) if layer not in gone)
    if not kept:
        raise _refusal("no layer would be left")
    if layers.attending and not {*kept}.intersection(layers.attending):
        raise _refusal("no attention would be left, by which the family's class counts tokens")

    def renumber(values: Mapping[str, Any]) -> dict[str, Any]:
        count = config.num_hidden_layers
        return {field: _renumbered(names.get(field, field), value, kept, count) for field, value in values.items()}

    # Some families have other names for fields, as `n_layer`.
    names = {own: field for field, own in type(config).attribute_map.items()}
    full = config.to_dict()
    renumbered = renumber(full)
    if fields.get(STORED_FORM):
        fields[STORED_FORM] = {name: _renumbered_modules(value, kept) for name, value in fields[STORED_FORM].items()}
    plain = replace(
        base,
        config={
            **renumber(fields),
            # Fields that config.json leaves to the family's class are stated, or it would compute them by new numbers.
            **{field: value for field, value in renumbered.items() if value != full[field]},
            "model_type": config.model_type,
            "architectures": config.architectures,
        },
    )
    try:
        own = read_config(plain)
    except UserError as error:
        raise _refusal(f"the family's class takes no such config.json ({error})") from error
    _check_config(own.to_dict(), renumbered)
    _check_layers(base, plain, kept)
    return PlainCheckpoint(plain.config, kept)


def _renumbered(field: str, value: Any, kept: tuple[int, ...], num_layers: int) -> Any:
    """A field of config.json as the plain model has it."""
    if field == "num_hidden_layers":
        return len(kept)
    if field in FIRST_LAYERS and isinstance(value, int):
        return sum(layer < value for layer in kept)
    if field in ENDS and isinstance(value, int) and value >= 0:
        return sum(layer <= value for layer in kept) - 1
    if field in LAST_LAYERS and isinstance(value, int):
        return sum(layer >= num_layers - value for layer in kept)
    if field in LETTERS and isinstance(value, str) and len(value) == num_layers:
        return "".join(value[layer] for layer in kept)
    if field == "per_layer_config" and isinstance(value, dict):
        # Keys are numbers, as texts in a file.
        return {type(key)(kept.index(int(key))): own for key, own in value.items() if int(key) in kept}
    if field in LAYER_NUMBERS and value:
        return [kept.index(layer) for layer in value if layer in kept]
    if isinstance(value, list | tuple) and len(value) == num_layers and not field.endswith(NOT_OF_LAYERS):
        return [value[layer] for layer in kept]
    return value


def _renumbered_modules(value: Any, kept: tuple[int, ...]) -> Any:
    """A field of a quantized base's `quantization_config`; a list of modules as the plain model numbers them."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return value
    names = ((name, LAYER_MODULE.fullmatch(name)) for name in value)
    return [
        f"{match[1]}{kept.index(int(match[2]))}{match[3]}" if match else name
        for name, match in names
        if match is None or int(match[2]) in kept
    ]


def _check_towers(wrapper: Mapping[str, Any], drops: DropLists) -> None:
    """The towers of a wrapper must find the layers that they knew."""
    tower_class = base_config_class(wrapper_class(wrapper)).sub_configs.get("vision_config")
    stated = (wrapper.get("vision_config") or {}).get(DEEPSTACK, getattr(tower_class, DEEPSTACK, None))
    count = len(stated or ())
    if any(layer < count for layer in drops.attn):
        raise _refusal(f"image features are added behind each of the first {count} layers, by their numbers")
    if wrapper.get(STORED_FORM):
        raise _refusal("a multimodal checkpoint that is stored quantized names its modules by layer")


def _check_config(config: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """The family's class must read from the plain config.json what it read from the model's own."""
    for field in sorted(config.keys() | expected.keys()):
        if config.get(field) != expected.get(field):
            raise _cannot_travel(f"`{field}` of config.json is {expected.get(field)}", f"{config.get(field)}")


def _check_layers(base: Checkpoint, plain: Checkpoint, kept: tuple[int, ...]) -> None:
    models = [
        build_skeleton(read_config(checkpoint), DropLists(), torch.bfloat16, "eager") for checkpoint in (base, plain)
    ]
    outside, others = (_shapes_outside(model) for model in models)
    for name, shape in outside.items():
        if others.get(name) != shape:
            raise _refusal(f"{name} holds parts of every layer in one tensor")
    before, after = (decoder_layers(model) for model in models)
    for new, old in enumerate(kept):
        difference = setting_that_differs(before[old], after[new])
        if difference is not None:
            setting, value, other = difference
            raise _cannot_travel(f"`{setting}` of layer {old} is {value}", f"{other}, as layer {new}")


def _shapes_outside(model: PreTrainedModel) -> dict[str, torch.Size]:
    """Shapes of the tensors that are in no layer."""
    layers = f"{layers_path(model)}."
    return {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith(layers)}


def _cannot_travel(what: str, otherwise: str) -> UserError:
    return _refusal(f"{what}, and would be {otherwise}: this per-layer setting cannot travel")


def _refusal(reason: str) -> UserError:
    return UserError(f"no plain checkpoint: {reason}; export as `dropped`")
