"""`attention_entropy`: over how many tokens an attention spreads, in nats."""

import math

import torch

from drop_ray.scoring.metrics.metric import AttentionMetric


class AttentionEntropy(AttentionMetric):
    def scores(self, probabilities: torch.Tensor) -> torch.Tensor:
        """-sum p ln p over the keys of each token, mean over heads: float64 [batch, seq_len].

        0 where every head looks at one token, such as the first, and ln(n) where all look at n tokens alike.
        """
        terms: torch.Tensor = torch.special.entr(probabilities.float())
        return terms.sum(-1).double().mean(1)


ATTENTION_ENTROPY = AttentionEntropy(bounds=(0.0, math.inf), source="Shannon's entropy")
