"""Which variants are acceptable: the user's rule (`accept`), applied to what each variant loses against the base.

A variant is acceptable if the upper end of the one-sided interval of its loss is at most the allowed loss, and not
acceptable if the lower end is above it. Otherwise the documents cannot tell, and it is reckoned how many would. Weak
evidence has wide intervals, so that it makes no variant acceptable. With `each_task` so must every task be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drop_ray.evaluation.losses import Evidence, documents_to_tell, mean_loss
from drop_ray.report.evidence import Known, known_losses
from drop_ray.report.results import Results

Outcome = Literal["acceptable", "not acceptable", "cannot tell"]
DIGITS = 2
"""Of a number of documents that would be needed: it is reckoned from the variance of those that are known."""


@dataclass(frozen=True)
class AcceptanceRow:
    """What the rule `accept` says of one variant."""

    variant: str
    """Name of the variant."""
    metric: str
    """What may be lost of: `average`, `kl`, or a task."""
    allowed: float
    """What may be lost: a share of 1, or nats per token."""
    confidence: float
    """Of each of the two bounds by itself."""
    outcome: Outcome
    """What the bounds say: `acceptable`, `not acceptable`, or `cannot tell`."""
    loss: float | None
    """The base's less the variant's, paired by document; the KL itself; none where one side has no number."""
    low: float | None
    """The true loss is at least this."""
    high: float | None
    """The true loss is at most this."""
    documents: int | None
    """Documents that both have, over all tasks; samples of the panels' text where the rule is about KL."""
    needed: int | None
    """Documents of each task, or samples, that would tell; none where it is told, or where none would."""
    falls: tuple[str, ...]
    """Tasks that lose more than is allowed by themselves, by their own lower bounds."""
    over: tuple[str, ...]
    """Tasks whose loss itself is more than each task may lose; empty where none is held to anything by itself."""
    reason: str
    """Why there is no loss; empty where there is one."""

    @property
    def looks_acceptable(self) -> bool:
        """Whether the losses themselves, without their bounds, are allowed."""
        return self.loss is not None and self.loss <= self.allowed and not self.over


def acceptance(results: Results) -> list[AcceptanceRow]:
    """One for each variant that is not the base, in their order."""
    return [_row(results, variant, known) for variant, known in known_losses(results).items()]


def _row(results: Results, variant: str, known: Known) -> AcceptanceRow:
    rule = results.accept
    asked = (variant, rule.metric, rule.allowed, rule.confidence)
    if not known.losses:
        return AcceptanceRow(*asked, "cannot tell", None, None, None, None, None, known.falls, (), known.reason)
    found, over = mean_loss(known.losses, rule.confidence), []
    held: list[tuple[Sequence[Evidence], float]] = [(known.losses, rule.allowed)]
    if rule.allowed_each is not None:
        held += [([one], rule.allowed_each) for one in known.tasks.values()]
        alone = {task: one.loss(rule.confidence).value for task, one in known.tasks.items()}
        over = [task for task, value in alone.items() if value > rule.allowed_each]
    outcome, needed = _outcome(held, rule.confidence)
    documents = round(sum(one.documents for one in known.losses))
    told = (found.value, found.low, found.high, documents)
    return AcceptanceRow(*asked, outcome, *told, needed, known.falls, tuple(over), "")


def _outcome(held: Sequence[tuple[Sequence[Evidence], float]], confidence: float) -> tuple[Outcome, int | None]:
    """Of all that the rule holds to an allowed loss, each at most that; and the documents that would tell, if open.

    held: the losses of which the mean is taken, and what it may be.
    """
    bounds = [(mean_loss(losses, confidence), allowed) for losses, allowed in held]
    if any(loss.low > allowed for loss, allowed in bounds):
        return "not acceptable", None
    if all(loss.high <= allowed for loss, allowed in bounds):
        return "acceptable", None
    needed = [
        documents_to_tell(losses, confidence, allowed)
        for (losses, allowed), (loss, _) in zip(held, bounds, strict=True)
        if loss.high > allowed
    ]
    known = [one for one in needed if one is not None]
    return "cannot tell", _rounded(max(known)) if len(known) == len(needed) else None


def _rounded(needed: float) -> int:
    """Upwards, to two digits."""
    step = int(10 ** max(0, math.floor(math.log10(needed)) + 1 - DIGITS))
    return math.ceil(needed / step) * step
