"""`update_norm`: the length of what is added to the residual stream, against the length of the stream before it."""

import math

import torch

from drop_ray.scoring.metrics.metric import StateMetric
from drop_ray.scoring.state import State


class UpdateNorm(StateMetric):
    def distances(self, before: State, after: State) -> torch.Tensor:
        """|Y - X| / |X| of each token: float64 [batch, seq_len].

        Unlike an angle it counts what stretches a state along itself, which the norms of the layers behind undo.
        """
        update = after.hidden.float() - before.hidden.float()
        return (update * update).sum(-1).sqrt().double() / before.floored_norms.double()


UPDATE_NORM = UpdateNorm(bounds=(0.0, math.inf), source="the length of a difference of vectors")
