"""`loss`: how much less likely the text becomes when a module is left out."""

import math
from typing import TYPE_CHECKING

from drop_ray.scoring.metrics.metric import OutputMetric

if TYPE_CHECKING:
    from drop_ray.planning.losses import Loss


class LossIncrease(OutputMetric):
    def total(self, loss: "Loss") -> float:
        """Negative log-likelihood of the tokens that came, less the base's, in nats; below 0 where it falls."""
        return loss.increase


LOSS = LossIncrease(bounds=(-math.inf, math.inf), source="the logarithm of the ratio of perplexities")
