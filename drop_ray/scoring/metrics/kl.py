"""`kl`: how far the model's predictions move when a module is left out."""

import math
from typing import TYPE_CHECKING

from drop_ray.scoring.metrics.metric import OutputMetric

if TYPE_CHECKING:
    from drop_ray.planning.losses import Loss


class Kl(OutputMetric):
    def total(self, loss: "Loss") -> float:
        """KL(P || Q) of the base's predictions P from those without the module, in nats."""
        return loss.kl


KL = Kl(bounds=(0.0, math.inf), source="Kullback and Leibler, 1951")
