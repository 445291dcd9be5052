"""A variant: the base with its changes. It is what stages evaluate, export, quantize, measure and report."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from drop_ray.models.families import DropLists
from drop_ray.planning.changes import Change, Drop, Patch, Remake, TensorEdit, Undecided
from drop_ray.planning.plans import DropPlan
from drop_ray.store import Step


@dataclass(frozen=True)
class Variant:
    """The base with its changes, in their order. Equal changes are one variant, whatever their names."""

    base: str
    """Identity of the base model."""
    changes: tuple[Change, ...]
    """Its changes, in their order; empty for the base itself."""
    name: str = field(compare=False)
    """Name for people, such as `attention-4` or `attention-4-awq`."""
    plan: DropPlan = field(compare=False)
    """The plan that made its first changes."""

    @property
    def drops(self) -> DropLists:
        """All sub-layers that it lacks."""
        lists = DropLists()
        for change in self.changes:
            if isinstance(change, Drop):
                lists = lists.union(change.lists)
        return lists

    @property
    def edits(self) -> tuple[TensorEdit, ...]:
        return tuple(change for change in self.changes if isinstance(change, TensorEdit))

    @property
    def up_to_edits(self) -> tuple[Change, ...]:
        """Its changes up to the last edit: what decides the values of its tensors, whatever it lacks after that.

        Edits alone do not, as a patch is computed of the model before it. Empty where nothing is edited.
        """
        last = max((place for place, change in enumerate(self.changes) if isinstance(change, TensorEdit)), default=-1)
        return self.changes[: last + 1]

    @property
    def remake(self) -> Remake | None:
        """The change that makes a checkpoint of its own, if there is one. It is always the last change."""
        last = self.changes[-1] if self.changes else None
        return last if isinstance(last, Remake) else None

    @property
    def undecided(self) -> Undecided | None:
        """The stand-in for its drop, while its plan depends on scores to come; None otherwise."""
        return next((change for change in self.changes if isinstance(change, Undecided)), None)

    @property
    def before(self) -> "Variant":
        """This variant without its last change."""
        *rest, last = self.changes
        return replace(self, changes=tuple(rest), name=self.name.removesuffix(f"-{last.label}"))

    @property
    def libraries(self) -> tuple[str, ...]:
        """Libraries whose versions decide what its changes compute, besides torch and transformers."""
        computed = (change for change in self.changes if isinstance(change, Patch | Remake))
        return tuple(library for change in computed for library in change.libraries)

    @cached_property
    def made_by(self) -> Step | None:
        """The step that makes its own checkpoint; None where the base's files and what it changes are enough."""
        return self.remake.step(self.base, self.before.identity()) if self.remake else None

    def then(self, change: Change) -> "Variant":
        """This variant with one change more."""
        return replace(self, changes=(*self.changes, change), name=f"{self.name}-{change.label}")

    def identity(self) -> dict[str, Any]:
        """Its part of the identities of steps, besides the base: whatever decides a result."""
        fields: dict[str, Any] = self.drops.as_identity()
        others = [
            {"kind": change.kind, **change.identity(), **self._made_of(position)}
            for position, change in enumerate(self.changes)
            if not isinstance(change, Drop | Remake)
        ]
        if others:
            fields["changes"] = others
        if self.remake is not None and self.made_by is not None:
            fields[self.remake.field] = self.made_by.family
        return fields

    def _made_of(self, position: int) -> dict[str, Any]:
        """What a patch was computed of, where more is dropped after it: all drops are one list in an identity."""
        before = replace(self, changes=self.changes[:position]).drops
        return (
            {"of": before.as_identity()} if isinstance(self.changes[position], Patch) and before != self.drops else {}
        )


def variant_of(base: str, plan: DropPlan) -> Variant:
    """The variant that a plan makes of the base with that identity."""
    drop = [Drop(plan.drops, plan.name)] if plan.drops.count else []
    return Variant(base, (*drop, *plan.changes), plan.name, plan)


def undecided(base: Variant, name: str, *, whole_blocks: bool) -> Variant:
    """The stand-in for a variant whose plan depends on scores to come, which drops no more than the base."""
    plan = DropPlan(name, base.drops.attn, base.drops.mlp)
    return Variant(base.base, (*base.changes, Undecided(name, whole_blocks)), name, plan)


def distinct(variants: Iterable[Variant]) -> list[Variant]:
    """The first of each group of equal variants."""
    return list(dict.fromkeys(variants))
