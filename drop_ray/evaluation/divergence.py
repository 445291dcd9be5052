"""How far a variant's predictions are from the base's, token by token, from the logits of both.

P is what the base predicts of a token, Q what the variant predicts. All is computed in float64 from logits in the
model's own dtype. KL(P || Q) is summed as q - p - p (ln q - ln p) over the vocabulary, whose terms are never negative,
so that neither is the sum; what rounding leaves of the sums of P and Q enters it in second order only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

# Float64 numbers in one table of predictions: a few such tables are in memory at a time.
TABLE_SIZE = 1 << 24


class Comparison(NamedTuple):
    """The numbers of the predicted tokens, each float64."""

    kl: NDArray[np.float64]
    """KL(P || Q), in nats."""
    base_nll: NDArray[np.float64]
    """Negative log-likelihood of the token in P, in nats."""
    variant_nll: NDArray[np.float64]
    """The same in Q."""
    agreed: NDArray[np.float64]
    """1 where P and Q have the same most probable token, else 0."""
    acceptance: NDArray[np.float64]
    """1 less the total variation of P and Q: how probably a token drawn from Q is accepted by P."""


@dataclass(frozen=True)
class Predictions:
    """What a model predicts of some tokens."""

    log_probabilities: torch.Tensor
    """Float64 [tokens, vocabulary]."""
    probabilities: torch.Tensor
    """Their exponentials."""
    most_probable: torch.Tensor
    """Int64 [tokens]."""


def rows_at_once(vocabulary: int) -> int:
    """Number of tokens that are compared at a time. It depends on the vocabulary alone, as the bits of logits may on
    the number of rows of a product."""
    return max(1, TABLE_SIZE // vocabulary)


def predictions_of(logits: torch.Tensor) -> Predictions:
    """logits: [tokens, vocabulary] in any dtype."""
    log_probabilities = torch.log_softmax(logits.double(), dim=-1)
    return Predictions(log_probabilities, log_probabilities.exp(), logits.argmax(-1))


def compare(base: Predictions, variant: Predictions, targets: torch.Tensor) -> Comparison:
    """Numbers of each token, [tokens], NaN where a logit is. targets: the tokens that came, int64 [tokens]."""
    p, q = base.probabilities, variant.probabilities
    excess = (q - p).sub_(p * (variant.log_probabilities - base.log_probabilities))
    values = torch.stack(
        [
            excess.clamp_min_(0).sum(-1),
            -base.log_probabilities.gather(-1, targets[:, None])[:, 0],
            -variant.log_probabilities.gather(-1, targets[:, None])[:, 0],
            (base.most_probable == variant.most_probable).double(),
            1 - 0.5 * (p - q).abs_().sum(-1),
        ]
    )
    return Comparison(*values.cpu().numpy())


def joined(parts: list[Comparison]) -> Comparison:
    """The comparisons of consecutive tokens as one."""
    return Comparison(*map(np.concatenate, zip(*parts, strict=True)))


def stacked(samples: list[Comparison]) -> Comparison:
    """The comparisons of samples of equal length as one, each number [samples, tokens]."""
    return Comparison(*map(np.stack, zip(*samples, strict=True)))
