"""What a variant loses against the base on one sample, as its predictions say."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """Sums over the predicted tokens of one sample; likelihoods are in nats."""

    kl: float
    """KL(P || Q) of the base's predictions P from the variant's Q."""
    increase: float
    """Negative log-likelihood of the tokens that came in Q, less that in P; below 0 where the variant is better."""
    tokens: int
    """Number of predicted tokens."""
    accepted: float
    """1 less the total variation of P and Q: how many of tokens drawn from Q the base would keep."""


Losses = Mapping[int, Loss]
"""The losses of one variant by sample, of which there are at least two."""
