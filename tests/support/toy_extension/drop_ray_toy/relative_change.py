"""`relative_change`: the length of what a sub-layer adds, against the length of what it adds to."""

import math

import torch

from drop_ray.scoring.metrics.metric import StateMetric
from drop_ray.scoring.state import State


class RelativeChange(StateMetric):
    def distances(self, before: State, after: State) -> torch.Tensor:
        """|Y - X| / |X| of each token: float64 [batch, seq_len]."""
        change = torch.linalg.vector_norm(after.hidden.float() - before.hidden.float(), dim=-1)
        return change.double() / before.floored_norms.double()


RELATIVE_CHANGE = RelativeChange(bounds=(0.0, math.inf), source="the length of a difference of vectors")
