"""The rows of what damage gates say: of a variant, of a variant at one gate, and of a strategy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VerdictRow:
    """What the damage gates say of one variant, all together."""

    variant: str
    """Name of the variant."""
    outcome: str
    """`accept`, `regression`, or `cannot tell`."""
    reason: str
    """Why, with the numbers of the gates that decide."""
    tolerance: float
    """Loss of accuracy from which on a gate stops a variant."""
    confidence: float
    """Of the bounds of losses: lower bounds hold for all gates at once, each upper bound by itself."""


@dataclass(frozen=True)
class GateRow:
    """What one damage gate says of one variant."""

    variant: str
    """Name of the variant."""
    gate: str
    """Name of the gate: `needle-1024`, `copying`, ..."""
    title: str
    """Its name for people."""
    outcome: str
    """`accept`, `regression`, `cannot tell`, `not informative` or `skipped`."""
    reason: str
    """Why, in words and numbers."""
    items: int
    """Number of items; 0 of a gate that was skipped."""
    chance: float | None
    """Share of items that guessing gets right."""
    base: float | None
    """Share of items that the base gets right."""
    share: float | None
    """Share of items that the variant gets right."""
    loss: float | None
    """The base's share less the variant's, on the same items; none of a gate that is not informative."""
    low: float | None
    """Lower bound of the loss."""
    high: float | None
    """Upper bound of the loss."""


@dataclass(frozen=True)
class CliffRow:
    """How much a strategy can drop before a damage gate stops it."""

    strategy: str
    """Name of the strategy."""
    counts: int
    """The largest number that it can drop."""
    largest: int
    """The largest number that no gate stops; 0 if none."""
    fails: int | None
    """The next larger number, which a gate stops; none if the largest of all passes."""
    reason: str
    """Why that one is stopped."""
    asked: tuple[int, ...]
    """The numbers whose gates were asked, in order."""
    known: tuple[int, ...]
    """Those of them that were plans of the run anyway."""
    plan: str | None
    """The file of the plan that drops `largest`, in the run's folder."""
    drop_attn: tuple[int, ...]
    """Layers that it leaves without their attention."""
    drop_mlp: tuple[int, ...]
    """Layers that it leaves without their MLP."""
