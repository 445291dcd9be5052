"""`angular`: the angle between two states as a part of the half turn."""

import math

import torch

from drop_ray.scoring.metrics.metric import StateMetric
from drop_ray.scoring.state import State


class Angular(StateMetric):
    def distances(self, before: State, after: State) -> torch.Tensor:
        """arccos(cos(X, Y)) / pi of each token: float64 [batch, seq_len].

        The paper takes the last token of each sequence; here all tokens count, as for the cosine. The arccos itself is
        not taken: near cos = 1, where redundant layers are, it makes an error of 3e-4 from one of 1e-7. Kahan's
        formula, 2 atan2(|u - v|, |u + v|) of the unit vectors, is accurate to float32 at every angle.
        """
        first = before.hidden.float() / before.floored_norms.unsqueeze(-1)
        second = after.hidden.float() / after.floored_norms.unsqueeze(-1)
        apart = torch.linalg.vector_norm(first - second, dim=-1)
        together = torch.linalg.vector_norm(first + second, dim=-1)
        return 2 / math.pi * torch.atan2(apart.double(), together.double())


ANGULAR = Angular(bounds=(0.0, 1.0), source="Gromov et al., arXiv 2403.17887")
