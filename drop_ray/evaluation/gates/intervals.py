"""Exact bounds for shares of few items, and for what one side of pairs loses against the other.

Items are drawn independently from the same generator. Nothing is assumed beyond that, and no bound rests on a normal
distribution: with 32 items of which none differs, that would say that nothing can ever differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import betaincinv


@dataclass(frozen=True)
class PairedLoss:
    """How much less of the same items one side gets right than the other."""

    value: float
    """Share that the base gets right less the share that the variant gets right; below 0 is a gain."""
    low: float
    """The true loss is at least this."""
    high: float
    """The true loss is at most this."""


def lower_share(count: int, total: int, risk: float) -> float:
    """The share is at least this, but for a probability of `risk` (Clopper and Pearson 1934)."""
    return float(betaincinv(count, total - count + 1, risk)) if count else 0.0


def upper_share(count: int, total: int, risk: float) -> float:
    """The share is at most this, but for a probability of `risk`."""
    return 1 - lower_share(total - count, total, risk)


def paired_loss(base: Sequence[bool], variant: Sequence[bool], low_risk: float, high_risk: float) -> PairedLoss:
    """The loss with two one-sided bounds, which fail with a probability of at most `low_risk` and `high_risk`.

    Of n items b are right in the base only and c in the variant only. Half of each risk goes to each of the two shares
    that a bound is made of.

    The lower bound conditions on the b + c items that differ: it is (share that differs) x (2 share lost - 1), with
    exact bounds of both. It is above 0 exactly if McNemar's exact test rejects "no loss" at half of `low_risk`. The
    upper bound is (upper bound of b / n) - (lower bound of c / n), which is the sharper one where few items differ.

    ValueError unless both sides have the same number of items, of one at least.
    """
    if not base or len(base) != len(variant):
        raise ValueError(f"{len(base)} and {len(variant)} items are no pairs")
    total = len(base)
    lost = sum(one and not other for one, other in zip(base, variant, strict=True))
    gained = sum(other and not one for one, other in zip(base, variant, strict=True))
    differ = lost + gained
    lean = 2 * lower_share(lost, differ, low_risk / 2) - 1 if differ else -1.0
    bound = lower_share if lean > 0 else upper_share
    return PairedLoss(
        value=(lost - gained) / total,
        low=bound(differ, total, low_risk / 2) * lean,
        high=upper_share(lost, total, high_risk / 2) - lower_share(gained, total, high_risk / 2),
    )
