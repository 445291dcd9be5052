"""A drop plan: a small portable JSON that says which sub-layers of which model are dropped, and what that saves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drop_ray.errors import UserError
from drop_ray.models.families import DropLists, check_drop_lists
from drop_ray.models.layers import Layers
from drop_ray.planning.budgets.outcome import Outcome
from drop_ray.planning.changes import Change, Drop, change_of, layer_numbers
from drop_ray.reading.json_text import read_json
from drop_ray.text.path_names import file_name, shown

FORMAT = "drop-plan/1"
BASE = "base"
# The drop lists, and how a checkpoint's config.json spells them.
LISTS = {"drop_attn": "drop_attn_list", "drop_mlp": "drop_mlp_list"}
# What the other fields must be; all but the strategy may be null.
KINDS = {
    "strategy": str,
    "metric": str,
    "model_identity": str,
    "calibration_identity": str,
    "parameters": int,
    "kv_bytes_per_token": int,
}


@dataclass(frozen=True)
class DropPlan:
    """Which sub-layers are dropped from the base. A plan made by hand needs only the drop lists."""

    name: str
    """Name for people and files. A plan file without one takes the file's name."""
    drop_attn: tuple[int, ...] = ()
    """Layers that lose their attention, in the order in which they were chosen: most redundant first."""
    drop_mlp: tuple[int, ...] = ()
    """Layers that lose their MLP, in the order in which they were chosen."""
    strategy: str = "file"
    """Name of the strategy that made it; `file` for a plan made by hand."""
    metric: str | None = None
    """Name of the metric that it ranks by; None if it follows no scores."""
    model_identity: str | None = None
    """Identity of the base."""
    calibration_identity: str | None = None
    """Identity of the calibration samples that were scored."""
    parameters: int | None = None
    """Number of parameters that are left."""
    kv_bytes_per_token: int | None = None
    """Bytes of KV cache of one token that are left."""
    changes: tuple[Change, ...] = ()
    """Further changes, made after the drop."""
    budget: Outcome | None = None
    """What came of its limits; None for a plan that has none, and for one from a file."""

    @property
    def drops(self) -> DropLists:
        return DropLists(self.drop_attn, self.drop_mlp)

    def to_json(self) -> str:
        values = {key: value for key, value in self.__dict__.items() if key not in ("changes", "budget")}
        changes = {"changes": [change.to_json() for change in self.changes]} if self.changes else {}
        budget = {"budget": self.budget.to_json()} if self.budget else {}
        return json.dumps({"format": FORMAT, **values, **changes, **budget}, indent=2) + "\n"


def read_plan(path: Path, layers: Layers, model_identity: str | None) -> DropPlan:
    """Read a plan made by drop_ray or by hand.

    UserError for unknown keys, layers that do not fit or must stay, another model.

    model_identity: identity of the model at hand; None, without its weights, leaves that unchecked.
    """
    plan = _parse(read_json(path, f"plan {path}"), path, layers.count)
    check_drop_lists(plan.drops, layers.count, f"plan {path}")
    layers.check(plan.drops, f"plan {path}")
    if plan.drops.count == 0 and not plan.changes:
        raise UserError(f"plan {path} drops nothing: drop_attn and drop_mlp are empty")
    if model_identity is not None and plan.model_identity not in (None, model_identity):
        raise UserError(
            f"plan {path} was made for another model (identity {str(plan.model_identity)[:16]}, this one is "
            f"{model_identity[:16]}); remove model_identity from it to use it all the same"
        )
    return plan


def _parse(values: Any, path: Path, num_layers: int) -> DropPlan:
    if not isinstance(values, Mapping):
        raise UserError(f'plan {path}: a plan is an object like {{"drop_attn": [25, 26], "drop_mlp": []}}')
    # What came of limits is of the run that made the plan.
    fields = {key: value for key, value in values.items() if key not in ("format", "budget")}
    if values.get("format", FORMAT) != FORMAT:
        raise UserError(f"plan {path}: format {shown(values['format'])} is not {FORMAT}")
    for key, of_checkpoint in LISTS.items():
        if key in fields and of_checkpoint in fields:
            raise UserError(f"plan {path}: gives both {key} and {of_checkpoint}, which are one list; remove one")
        if of_checkpoint in fields:
            fields[key] = fields.pop(of_checkpoint)
    unknown = sorted(fields.keys() - DropPlan.__dataclass_fields__.keys())
    if unknown:
        valid = ", ".join(DropPlan.__dataclass_fields__)
        raise UserError(f"plan {path}: unknown key {shown(unknown[0])}; valid: {valid}")
    for key, kind in KINDS.items():
        if key in fields and type(fields[key]) is not kind and (key == "strategy" or fields[key] is not None):
            wanted = "a text" if kind is str else "a number"
            raise UserError(f"plan {path}: {key} must be {wanted}, not {type(fields[key]).__name__}")
    for key in LISTS:
        try:
            fields[key] = _layers(fields.get(key, []), key, num_layers)
        except ValueError as error:
            raise UserError(f"plan {path}: {error}") from error
    fields |= _changes(fields, path)
    return DropPlan(**{**fields, "name": _name(fields.get("name", path.stem), path)})


def _layers(values: Any, key: str, num_layers: int) -> tuple[int, ...]:
    """The layers in a drop list: their numbers, or one boolean for each layer of the model."""
    if not isinstance(values, list) or {type(value) for value in values} != {bool}:
        return layer_numbers(values, key)
    if len(values) != num_layers:
        raise ValueError(f"{key} has {len(values)} booleans for {num_layers} layers; list one for each layer")
    return tuple(layer for layer, is_dropped in enumerate(values) if is_dropped)


def _name(text: Any, path: Path) -> str:
    """It becomes a file of the run's folder, and must not stand for the base."""
    try:
        name = file_name(text)
    except ValueError as error:
        raise UserError(f"plan {path}: name: {error}") from error
    if name == BASE:
        raise UserError(f"plan {path}: name: {BASE} is the model as given; give the plan another `name`")
    return name


def _changes(fields: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The fields that a list of changes gives: the drop lists of its drops, and the other changes in their order."""
    entries = fields.get("changes", [])
    if not isinstance(entries, list):
        raise UserError(f"plan {path}: changes must be a list of changes")
    changes = [change_of(entry, f"plan {path}: changes[{position}]") for position, entry in enumerate(entries)]
    drops = [change for change in changes if isinstance(change, Drop)]
    return {
        "drop_attn": (*fields["drop_attn"], *(layer for drop in drops for layer in drop.lists.attn)),
        "drop_mlp": (*fields["drop_mlp"], *(layer for drop in drops for layer in drop.lists.mlp)),
        "changes": tuple(change for change in changes if not isinstance(change, Drop)),
    }
