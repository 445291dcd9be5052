"""One step from a model to another: what decides its result, what it is called, and how it becomes weights.

A change becomes weights in one of three ways, each a class here. `Drop` removes sub-layers. A `TensorEdit` gives some
tensors other values while they are read. A `Remake` computes a checkpoint of its own, which stands in the store.
A package adds a kind of change by the entry point group `drop_ray.changes`; docs/extending.md shows one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from drop_ray.errors import UserError
from drop_ray.extensions import CHANGES
from drop_ray.models.families import DropLists
from drop_ray.store.identity import canonical_json

if TYPE_CHECKING:
    import torch

    from drop_ray.store import Step


@dataclass(frozen=True, eq=False)
class Change(ABC):
    """A frozen value. Two changes are equal if they are of one kind and have equal identities."""

    kind: ClassVar[str]
    """What a plan file calls it; the entry point's name."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What a variant's name ends with after this change."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Everything that decides its result, as plain JSON values: never its label."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Change":
        """The change that an entry of a plan file's `changes` describes, without its `kind`. ValueError or TypeError
        if the values do not fit."""
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The entry of a plan file's `changes`, which `from_json` reads."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {"kind": self.kind, **values}

    @cached_property
    def key(self) -> str:
        """Equal for equal changes."""
        return canonical_json({"kind": self.kind, **self.identity()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Change) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, eq=False)
class Drop(Change):
    """Sub-layers that are gone, with their norms; the residual stream passes them by."""

    kind: ClassVar[str] = "drop"
    lists: DropLists
    """Layers without attention, and layers without MLP."""
    name: str = ""
    """Of the plan that drops them."""

    @property
    def label(self) -> str:
        return self.name

    def identity(self) -> Mapping[str, Any]:
        return self.lists.as_identity()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Drop":
        unknown = sorted(values.keys() - {"attn", "mlp"})
        if unknown:
            raise ValueError(f"unknown key {unknown[0]}; a drop has `attn` and `mlp`")
        lists = {key: layer_numbers(values.get(key, []), key) for key in ("attn", "mlp")}
        return cls(DropLists(**lists))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "attn": list(self.lists.attn), "mlp": list(self.lists.mlp)}


class TensorEdit(Change):
    """A change of some tensors' values, made while they are read from the base's files; shapes and dtypes stay.

    Names are those in the checkpoint's files, such as `model.layers.3.mlp.down_proj.weight`.
    """

    @abstractmethod
    def edits(self, name: str) -> bool:
        """Whether it changes the tensor of that name."""

    @abstractmethod
    def edit(self, name: str, tensor: "torch.Tensor") -> "torch.Tensor":
        """The tensor's new values, in its own shape and dtype. Called only for a name that it edits."""


class Remake(Change):
    """A change whose result is a checkpoint of its own, computed by a step and kept in the store."""

    field: ClassVar[str]
    """Of the identities of what is made with the checkpoint, under which its step's family stands."""
    libraries: ClassVar[tuple[str, ...]]
    """Whose versions decide what the checkpoint computes, besides torch and transformers."""

    @abstractmethod
    def step(self, base: str, before: Mapping[str, Any]) -> "Step":
        """The step that makes the checkpoint. base: identity of the base model; before: of the changes before it."""

    @abstractmethod
    def environment(self, device: str) -> Mapping[str, str]:
        """Environment variables of the processes that make and load it, from before they import anything."""

    @abstractmethod
    def load(self, folder: Path, *, device: str, dtype: str, attn_implementation: str) -> Any:
        """The checkpoint as a model of transformers, ready for inference."""

    @property
    @abstractmethod
    def bytes_per_weight(self) -> float:
        """Of the weights of its layers, as they are stored."""


@dataclass(frozen=True, eq=False)
class Undecided(Change):
    """Stands for what a plan will drop, while the scores that decide it are still to come. Nothing is made of it."""

    kind: ClassVar[str] = "undecided"
    name: str
    """Of the plan."""
    whole_blocks: bool
    """Whether it is sure to drop whole blocks."""

    @property
    def label(self) -> str:
        return self.name

    def identity(self) -> Mapping[str, Any]:
        return {"plan": self.name}


def change_of(values: Any, where: str) -> Change:
    """One entry of a plan file's `changes`; UserError, which begins with `where`, if it is not a change."""
    if not isinstance(values, Mapping) or not isinstance(values.get("kind"), str):
        raise UserError(f'{where}: a change is an object with a `kind`, like {{"kind": "drop", "attn": [25, 26]}}')
    rest = {key: value for key, value in values.items() if key != "kind"}
    try:
        change: Change = CHANGES.load(values["kind"]).from_json(rest)
        change.key  # noqa: B018  raises TypeError for an identity that is no plain JSON
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {values['kind']}: {error}") from error
    return change


def layer_numbers(values: Any, key: str) -> tuple[int, ...]:
    """The layers of a plan file's list; ValueError if it is none."""
    if not isinstance(values, list | tuple) or not all(type(layer) is int for layer in values):
        raise ValueError(f"{key} must be a list of layer numbers")
    return tuple(values)
