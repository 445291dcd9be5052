"""Whether a plan may pass: its answers to the gates against the base's, item by item.

What a gate says:
- `not informative`: the base itself is too near to guessing to lose more than the tolerance. That is so unless the
  lower bound of the base's share of right answers is more than the tolerance above chance.
- `regression`: the variant loses more than the tolerance, and the lower bound of the loss is above 0. A variant whose
  numbers are not finite is a regression, too.
- `accept`: the variant loses at most the tolerance, and the upper bound of the loss is below twice the tolerance.
- `cannot tell`: neither; more items would tell.

A plan is a regression if one gate says so, accepted if every informative gate accepts it, and otherwise open. One loss
is enough to stop a plan, so lower bounds hold for all informative gates of a plan at once (Bonferroni). All losses must
be small for it to be accepted, so each upper bound holds by itself (an intersection-union test). Plans are not
corrected for being several.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drop_ray.evaluation.gates.intervals import PairedLoss, lower_share, paired_loss
from drop_ray.evaluation.gates.result import Answers, GateResult

Outcome = Literal["accept", "regression", "cannot tell", "not informative", "skipped"]
# Reasons that are said of a plan; the others stand in the table.
SAID = 3


@dataclass(frozen=True)
class GateVerdict:
    """What one gate says of a variant."""

    gate: str
    """Name of the gate."""
    title: str
    """Its name for people."""
    outcome: Outcome
    """What it says."""
    reason: str
    """Why, with the numbers."""
    chance: float | None = None
    """Share of items that guessing gets right; None of a gate that was skipped."""
    base: float | None = None
    """Share of items that the base gets right."""
    variant: float | None = None
    """Share of items that the variant gets right."""
    loss: PairedLoss | None = None
    """What the variant loses; None where one side has no numbers."""
    items: int = 0
    """Number of items."""


@dataclass(frozen=True)
class Verdict:
    """What the gates say of a variant."""

    outcome: Outcome
    """Of all gates together."""
    reason: str
    """Why."""
    gates: tuple[GateVerdict, ...]
    """What each gate says, in order; those that were skipped last."""

    @property
    def passes(self) -> bool:
        """Whether no gate stops it."""
        return self.outcome != "regression"


def judge(base: Answers, variant: Answers, tolerance: float, confidence: float) -> Verdict:
    """The verdict on a variant. tolerance: loss of accuracy; confidence: of the bounds of each side, as above."""
    risk, own = 1 - confidence, {one.gate: one for one in variant.results}
    pairs = [(one, own[one.gate]) for one in base.results if one.gate in own]
    informative = sum(_why_not(one, tolerance, risk) is None for one, _ in pairs)
    judged = [_judge(*pair, tolerance, risk, max(informative, 1)) for pair in pairs]
    skipped = [
        GateVerdict(one.gate, one.title, "skipped", f"{one.title}: skipped, {one.reason}") for one in base.skipped
    ]
    return _all(judged, skipped, tolerance)


def _why_not(base: GateResult, tolerance: float, risk: float) -> str | None:
    """Why a gate says nothing of plans of this base; None if it says something."""
    if base.fault:
        return f"the base itself has no numbers ({base.fault})"
    at_least = lower_share(sum(base.right), len(base.right), risk)
    if at_least - base.chance > tolerance:
        return None
    guessed = f"guessing {base.chance:.2f}" if base.chance else "guessing nothing"
    return f"the base itself gets {base.share:.2f} right (at least {at_least:.2f}), {guessed}"


def _judge(base: GateResult, variant: GateResult, tolerance: float, risk: float, informative: int) -> GateVerdict:
    known = {"chance": base.chance, "items": len(base.right) or len(variant.right)}
    if base.right:
        known["base"] = base.share
    if variant.right:
        known["variant"] = variant.share
    if variant.fault and not base.fault:
        return GateVerdict(base.gate, base.title, "regression", f"{base.title}: {variant.fault}", **known)  # type: ignore[arg-type]
    if (why := _why_not(base, tolerance, risk)) is not None:
        reason = f"{base.title}: not informative, {why}"
        return GateVerdict(base.gate, base.title, "not informative", reason, **known)  # type: ignore[arg-type]
    loss = paired_loss(base.right, variant.right, risk / informative, risk)
    reason = f"{base.title}: {base.share:.2f} -> {variant.share:.2f}, {_spelled(loss)}"
    outcome: Outcome = "cannot tell"
    if loss.value > tolerance and loss.low > 0:
        outcome = "regression"
    elif loss.value <= tolerance and loss.high < 2 * tolerance:
        outcome = "accept"
    else:
        far = "no loss" if loss.value > tolerance else f"a loss of {2 * tolerance:.2f}"
        reason += f", which {known['items']} items cannot tell from {far}"
    return GateVerdict(base.gate, base.title, outcome, reason, loss=loss, **known)  # type: ignore[arg-type]


def _spelled(loss: PairedLoss) -> str:
    """`loses 0.56 (0.42 to 0.70)`."""
    if loss.value < 0:
        return f"gains {-loss.value:.2f} ({_bound(-loss.high)} to {_bound(-loss.low)})"
    return f"loses {loss.value:.2f} ({_bound(loss.low)} to {_bound(loss.high)})"


def _bound(value: float) -> str:
    """One digit where two decimals would hide on which side of 0 it is."""
    return f"{value:.1g}" if 0 < abs(value) < 0.005 else f"{value:.2f}"


def _all(judged: Sequence[GateVerdict], skipped: Sequence[GateVerdict], tolerance: float) -> Verdict:
    gates = (*judged, *skipped)
    informative = [one for one in judged if one.outcome != "not informative"]
    if stopped := [one for one in judged if one.outcome == "regression"]:
        # What has no numbers first, then the largest loss.
        stopped.sort(key=lambda one: -one.loss.value if one.loss else -2.0)
        return Verdict("regression", _reasons(stopped), gates)
    if not informative:
        return Verdict("cannot tell", "no gate says anything of this model", gates)
    if unclear := [one for one in judged if one.outcome == "cannot tell"]:
        return Verdict("cannot tell", _reasons(unclear), gates)
    worst = max(informative, key=lambda one: one.loss.high if one.loss else 0.0)
    said = f"{len(informative)} of {len(gates)} gates are informative, and none loses more than {tolerance:.2f}"
    return Verdict("accept", f"{said}; {worst.reason}", gates)


def _reasons(gates: Sequence[GateVerdict]) -> str:
    more = f"; and {len(gates) - SAID} more" if len(gates) > SAID else ""
    return "; ".join(gate.reason for gate in gates[:SAID]) + more
