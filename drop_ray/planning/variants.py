"""A model as changed: what is evaluated, exported, quantized, measured and reported, whatever was done to it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from drop_ray.models.families import DropLists
from drop_ray.planning.changes import Change, Drop, Remake, TensorEdit, Undecided
from drop_ray.planning.plans import DropPlan
from drop_ray.store import Step


@dataclass(frozen=True)
class Variant:
    """The base with its changes, in their order. Equal changes are one variant, whatever their names."""

    base: str
    """Identity of the base model."""
    changes: tuple[Change, ...]
    """What was done to it; nothing for the base itself."""
    name: str = field(compare=False)
    """For people: `attention-4`, `attention-4-awq`."""
    plan: DropPlan = field(compare=False)
    """The plan that its first changes are from."""

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
    def remake(self) -> Remake | None:
        """The change that makes a checkpoint of its own, if there is one: it is the last."""
        last = self.changes[-1] if self.changes else None
        return last if isinstance(last, Remake) else None

    @property
    def undecided(self) -> Undecided | None:
        """Given while its plan depends on scores to come."""
        return next((change for change in self.changes if isinstance(change, Undecided)), None)

    @property
    def before(self) -> "Variant":
        """Without its last change."""
        return replace(self, changes=self.changes[:-1])

    @property
    def made_by(self) -> Step | None:
        """The step that makes its own checkpoint; None where the base's files and what it changes are enough."""
        return self.remake.step(self.base, self.before.identity()) if self.remake else None

    def then(self, change: Change) -> "Variant":
        """With one change more."""
        return replace(self, changes=(*self.changes, change), name=f"{self.name}-{change.label}")

    def identity(self) -> dict[str, Any]:
        """What of it decides a result, besides the base: fields of the identities of steps."""
        fields: dict[str, Any] = self.drops.as_identity()
        others = [change for change in self.changes if not isinstance(change, Drop | Remake)]
        if others:
            fields["changes"] = [{"kind": change.kind, **change.identity()} for change in others]
        if self.remake is not None and self.made_by is not None:
            fields[self.remake.field] = self.made_by.family
        return fields


def variant_of(base: str, plan: DropPlan) -> Variant:
    """The variant that a plan makes of the base model with that identity."""
    drop = [Drop(plan.drops, plan.name)] if plan.drops.count else []
    return Variant(base, (*drop, *plan.changes), plan.name, plan)


def distinct(variants: Iterable[Variant]) -> list[Variant]:
    """Equal variants are one model: the first stands for the others."""
    return list(dict.fromkeys(variants))
