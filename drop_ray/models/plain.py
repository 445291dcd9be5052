"""The plain checkpoint of a model without whole blocks: the family's model with fewer layers, without any code of ours.

The kept layers are numbered anew, and settings that config.json lists by layer are renumbered with them. To prove that
nothing else changes, both models are built without weights, and every kept layer is compared with itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from drop_ray.errors import UserError
from drop_ray.models.checkpoint import Checkpoint
from drop_ray.models.dropped import build_skeleton, decoder_layers, read_config
from drop_ray.models.families import DropLists
from drop_ray.models.files.companions import without_code
from drop_ray.models.layer_settings import setting_that_differs

# Fields that list layers by number.
LAYER_NUMBERS = ("mlp_only_layers",)
# Fields that say how many of the first layers are of one kind.
FIRST_LAYERS = ("first_k_dense_replace", "max_window_layers")
# Endings of fields whose lists are not by layer, though they may happen to have as many entries as there are layers.
NOT_OF_LAYERS = ("architectures", "_token_id", "_token_ids")
# Fields of config.json about drops and provenance, which a plain checkpoint does not have.
OTHER_FORMATS_FIELDS = ("drop_attn_list", "drop_mlp_list", "drop_ray", "_name_or_path")
LAYER_TENSOR = re.compile(r"((?:.*?\.)?layers\.)(\d+)(\..+)")


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
    if drops.attn != drops.mlp:
        raise _refusal("it can lack whole blocks only, and the plan drops attention or MLP alone")
    own = without_code(checkpoint.config)
    fields = {field: value for field, value in own.items() if field not in OTHER_FORMATS_FIELDS}
    base = replace(checkpoint, config=fields)
    config = read_config(base)
    kept = tuple(layer for layer in range(config.num_hidden_layers) if layer not in drops.attn)
    if not kept:
        raise _refusal("no layer would be left")

    def renumber(values: Mapping[str, Any]) -> dict[str, Any]:
        return {field: _renumbered(field, value, kept, config.num_hidden_layers) for field, value in values.items()}

    full = config.to_dict()
    renumbered = renumber(full)
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
    _check_config(read_config(plain).to_dict(), renumbered)
    _check_layers(base, plain, kept)
    return PlainCheckpoint(plain.config, kept)


def _renumbered(field: str, value: Any, kept: tuple[int, ...], num_layers: int) -> Any:
    """A field of config.json as the plain model has it."""
    if field == "num_hidden_layers":
        return len(kept)
    if field in FIRST_LAYERS and isinstance(value, int):
        return sum(layer < value for layer in kept)
    if field in LAYER_NUMBERS and value:
        return [kept.index(layer) for layer in value if layer in kept]
    if isinstance(value, list | tuple) and len(value) == num_layers and not field.endswith(NOT_OF_LAYERS):
        return [value[layer] for layer in kept]
    return value


def _check_config(config: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """The family's class must read from the plain config.json what it read from the model's own."""
    for field in sorted(config.keys() | expected.keys()):
        if config.get(field) != expected.get(field):
            raise _cannot_travel(f"`{field}` of config.json is {expected.get(field)}", f"{config.get(field)}")
    if expected.get("per_layer_config"):
        raise _cannot_travel("config.json has a `per_layer_config`", "of other layers")


def _check_layers(base: Checkpoint, plain: Checkpoint, kept: tuple[int, ...]) -> None:
    before, after = (
        decoder_layers(build_skeleton(read_config(checkpoint), DropLists(), torch.bfloat16, "eager"))
        for checkpoint in (base, plain)
    )
    for new, old in enumerate(kept):
        difference = setting_that_differs(before[old], after[new])
        if difference is not None:
            setting, value, other = difference
            raise _cannot_travel(f"`{setting}` of layer {old} is {value}", f"{other}, as layer {new}")


def _cannot_travel(what: str, otherwise: str) -> UserError:
    return _refusal(f"{what}, and would be {otherwise}: this per-layer setting cannot travel")


def _refusal(reason: str) -> UserError:
    return UserError(f"no plain checkpoint: {reason}; export as `dropped`")
