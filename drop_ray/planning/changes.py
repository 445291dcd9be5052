"""A change is one step from a model to another: what decides its result, its name, and how it becomes weights.

A change becomes weights in one of three ways, each a class here. `Drop` removes sub-layers. A `TensorEdit` gives some
tensors other values while they are read; those of a `Patch` are computed by a step and kept in the store. A `Remake`
computes a checkpoint of its own, which is kept there too.
A package adds a kind of change by the entry point group `drop_ray.changes`; docs/extending.md shows one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from drop_ray.errors import UserError
from drop_ray.extensions import CHANGES
from drop_ray.models.families import DropLists
from drop_ray.store.identity import canonical_json

if TYPE_CHECKING:
    import torch

    from drop_ray.models.edited import Edit
    from drop_ray.store import Commit, Step


@dataclass(frozen=True, eq=False)
class Change(ABC):
    """Base class of all changes, which are frozen values. Two are equal if their kinds and identities are."""

    kind: ClassVar[str]
    """Its name in a plan file, which is the entry point's name."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The end of a variant's name after this change."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Everything that decides its result, as plain JSON values. The label is not part of it."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Change":
        """The change that an entry of a plan file's `changes` describes; `values` are without its `kind`.

        ValueError or TypeError if the values do not fit.
        """
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The entry of a plan file's `changes`; `from_json` reads it without its `kind`."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {"kind": self.kind, **values}

    @cached_property
    def key(self) -> str:
        """A text that is equal for equal changes."""
        return canonical_json({"kind": self.kind, **self.identity()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Change) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, eq=False)
class Drop(Change):
    """Removes sub-layers with their norms; the residual stream passes them by."""

    kind: ClassVar[str] = "drop"
    lists: DropLists
    """The drop lists: layers without attention, and layers without MLP."""
    name: str = ""
    """Name of the plan that drops them."""

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
        """Whether this change edits the tensor of that name."""

    @abstractmethod
    def edit(self, name: str, tensor: "torch.Tensor") -> "torch.Tensor":
        """The tensor's new values, in the same shape and dtype. Called only for names that it edits."""


@dataclass(frozen=True, eq=False)
class Patch(TensorEdit):
    """An edit whose tensors are computed by a step and kept in the store. A worker opens them before it reads."""

    libraries: ClassVar[tuple[str, ...]]
    """Libraries whose versions decide what the tensors are."""
    made: "Commit | None" = field(default=None, kw_only=True)
    """Commit of the step that computes them; None until it is done. It is no part of the identity."""
    tensors: "Edit | None" = field(default=None, kw_only=True, repr=False)
    """The tensors, while they are open on the node."""

    @abstractmethod
    def step(self, base: str, before: Mapping[str, Any]) -> "Step":
        """The step that computes the tensors. base: identity of the base model; before: of the changes before it."""

    def edits(self, name: str) -> bool:
        assert self.tensors is not None, "a worker opens a patch before it reads"
        return self.tensors.edits(name)

    def edit(self, name: str, tensor: "torch.Tensor") -> "torch.Tensor":
        assert self.tensors is not None, "a worker opens a patch before it reads"
        return self.tensors.edit(name, tensor)


class Remake(Change):
    """A change whose result is a checkpoint of its own, computed by a step and kept in the store."""

    field: ClassVar[str]
    """Key of this change in the identities of steps that use the checkpoint."""

    @property
    @abstractmethod
    def libraries(self) -> tuple[str, ...]:
        """Libraries whose versions decide what the checkpoint computes, besides torch and transformers."""

    @abstractmethod
    def step(self, base: str, before: Mapping[str, Any]) -> "Step":
        """The step that makes the checkpoint. base: identity of the base model; before: of the changes before it."""

    @abstractmethod
    def environment(self, device: str) -> Mapping[str, str]:
        """Environment variables with which the processes that make and load the checkpoint start."""

    @abstractmethod
    def load(self, folder: Path, *, device: str, dtype: str, attn_implementation: str) -> Any:
        """The checkpoint in a folder as a transformers model, ready for inference."""

    @property
    @abstractmethod
    def bytes_per_weight(self) -> float:
        """Bytes of one weight in the decoder layers, as stored."""


@dataclass(frozen=True, eq=False)
class Undecided(Change):
    """Stands in a dry run for the drop of a plan whose scores are still to come. Nothing is computed from it."""

    kind: ClassVar[str] = "undecided"
    name: str
    """Name of the plan."""
    whole_blocks: bool
    """Whether the plan is certain to drop whole blocks."""

    @property
    def label(self) -> str:
        return self.name

    def identity(self) -> Mapping[str, Any]:
        return {"plan": self.name}


def change_of(values: Any, where: str) -> Change:
    """The change that an entry of a plan file's `changes` describes. UserError, which begins with `where`, if none."""
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
    """The layers in a list of a plan file. ValueError if it is not a list of layers."""
    if not isinstance(values, list | tuple) or not all(type(layer) is int for layer in values):
        raise ValueError(f"{key} must be a list of layer numbers")
    return tuple(values)
