"""What a search seeks of a model: one number of what was measured, of which low is good."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drop_ray.planning.losses import Losses
from drop_ray.planning.search.drafts import best_speedup


@dataclass(frozen=True)
class Measured:
    """A model as it was measured on the calibration samples, against the base."""

    kl: float
    """Mean KL(base || model) per token, in nats."""
    acceptance: float
    """Mean of 1 less the total variation of both predictions: how often the base keeps a token of the model's."""
    cost: float
    """Bytes of its weights over the base's."""


def measured(losses: Losses, cost: float) -> Measured:
    """The means over all tokens. Sums are rounded once, so that the order of delivery does not show."""
    tokens = sum(loss.tokens for loss in losses.values())
    return Measured(
        kl=math.fsum(loss.kl for loss in losses.values()) / tokens,
        acceptance=math.fsum(loss.accepted for loss in losses.values()) / tokens,
        cost=cost,
    )


def kl(model: Measured) -> float:
    """The distance to the base's predictions."""
    return model.kl


def draft(model: Measured) -> float:
    """Less the speedup of the base with this model as its draft, at the number of draft tokens that suits it best.

    Where memory is what decoding waits for, a step takes as long as its weights take to be read.
    """
    _, speedup = best_speedup(model.acceptance, model.cost)
    return -speedup


OBJECTIVES: Mapping[str, Callable[[Measured], float]] = {"kl": kl, "draft": draft}
"""By the values of a plan's `objective`."""
