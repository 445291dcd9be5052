"""A drop plan: a small portable JSON that says which sub-layers of which model are dropped, and what that saves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drop_ray.errors import UserError
from drop_ray.models.families import DropLists, check_drop_lists

FORMAT = "drop-plan/1"
BASE = "base"


@dataclass(frozen=True)
class DropPlan:
    """drop_attn, drop_mlp: layers in the order in which they were chosen, most redundant first.

    parameters and kv_bytes_per_token are what is expected to be left. A plan made by hand needs the drop lists only.
    """

    name: str
    drop_attn: tuple[int, ...] = ()
    drop_mlp: tuple[int, ...] = ()
    strategy: str = "file"
    metric: str | None = None
    model_identity: str | None = None
    calibration_identity: str | None = None
    parameters: int | None = None
    kv_bytes_per_token: int | None = None

    @property
    def drops(self) -> DropLists:
        return DropLists(self.drop_attn, self.drop_mlp)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **self.__dict__}, indent=2) + "\n"


def read_plan(path: Path, num_layers: int, model_identity: str | None) -> DropPlan:
    """Read a plan made by drop_ray or by hand. UserError for unknown keys, layers that do not fit, another model.

    model_identity: of the model at hand; None if its weights are not, which leaves that unchecked.
    """
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"plan {path}: no such file") from error
    except json.JSONDecodeError as error:
        raise UserError(f"plan {path} is not JSON: {error}") from error
    plan = _parse(values, path)
    check_drop_lists(plan.drops, num_layers, f"plan {path}")
    if plan.drops.count == 0:
        raise UserError(f"plan {path} drops nothing: drop_attn and drop_mlp are empty")
    if model_identity is not None and plan.model_identity not in (None, model_identity):
        raise UserError(
            f"plan {path} was made for another model (identity {str(plan.model_identity)[:16]}, this one is "
            f"{model_identity[:16]}); remove model_identity from it to use it all the same"
        )
    return plan


def _parse(values: Any, path: Path) -> DropPlan:
    if not isinstance(values, Mapping):
        raise UserError(f'plan {path}: a plan is an object like {{"drop_attn": [25, 26], "drop_mlp": []}}')
    fields = {key: value for key, value in values.items() if key != "format"}
    if values.get("format", FORMAT) != FORMAT:
        raise UserError(f"plan {path}: format {values['format']} is not {FORMAT}")
    unknown = sorted(fields.keys() - DropPlan.__dataclass_fields__.keys())
    if unknown:
        raise UserError(f"plan {path}: unknown key {unknown[0]}; valid: {', '.join(DropPlan.__dataclass_fields__)}")
    for key in ("drop_attn", "drop_mlp"):
        layers = fields.get(key, [])
        if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
            raise UserError(f"plan {path}: {key} must be a list of layer numbers")
        fields[key] = tuple(layers)
    return DropPlan(**{"name": path.stem, **fields})
