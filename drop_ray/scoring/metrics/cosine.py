"""`cosine`: one minus the cosine of the angle between two states, the importance S of He et al."""

import torch

from drop_ray.scoring.metrics.metric import StateMetric
from drop_ray.scoring.state import State


class Cosine(StateMetric):
    def distances(self, before: State, after: State) -> torch.Tensor:
        """1 - cos(X, Y) of each token: float64 [batch, seq_len]."""
        dots = (before.hidden.float() * after.hidden.float()).sum(-1)
        return 1.0 - dots.double() / (before.floored_norms * after.floored_norms).double()


COSINE = Cosine(bounds=(0.0, 2.0), source="He et al., arXiv 2406.15786")
