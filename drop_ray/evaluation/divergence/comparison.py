"""How far a variant's predictions are from the base's, token by token, from the logits of both.

P is what the base predicts of a token, Q what the variant predicts. All is computed in float64 from logits in the
model's own dtype. KL(P || Q) is summed as q - p - p (ln q - ln p) over the vocabulary, whose terms are not negative:
what rounding leaves of the sums of P and Q enters it in second order only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

# Float64 numbers in one table of predictions: a few such tables are in memory at a time.
TABLE_SIZE = 1 << 24
# Numbers that a processor works on at a time, so that they stay in its cache. A GPU takes whole tables.
BLOCK_SIZE = 1 << 16


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

    logits: torch.Tensor
    """Float64 [tokens, vocabulary]."""
    normalizers: torch.Tensor
    """What is taken from logits to make them log-probabilities, float64 [tokens, 1]."""
    probabilities: torch.Tensor
    """Float64 [tokens, vocabulary]."""
    most_probable: torch.Tensor
    """Int64 [tokens]."""


def rows_at_once(vocabulary: int) -> int:
    """Number of tokens that are compared at a time. It depends on the vocabulary alone, as the bits of logits may on
    the number of rows of a product."""
    return max(1, TABLE_SIZE // vocabulary)


def predictions_of(logits: torch.Tensor) -> list[Predictions]:
    """logits: [tokens, vocabulary] in any dtype. What comes out is in blocks of tokens."""
    rows = max(1, BLOCK_SIZE // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    return [_predictions(block) for block in torch.split(logits, rows)]


def compare(base: list[Predictions], variant: torch.Tensor, targets: torch.Tensor) -> Comparison:
    """Numbers of each token, [tokens], NaN where a logit is.

    variant: its logits, [tokens, vocabulary]; targets: the tokens that came, int64 [tokens].
    """
    sizes = [len(block.logits) for block in base]
    blocks = zip(base, torch.split(variant, sizes), torch.split(targets, sizes), strict=True)
    values = torch.cat([_compare(*block) for block in blocks], dim=1)
    return Comparison(*values.cpu().numpy())


def _predictions(logits: torch.Tensor) -> Predictions:
    values = logits.double()
    largest = values.amax(-1, keepdim=True)
    probabilities = (values - largest).exp_()
    total = probabilities.sum(-1, keepdim=True)
    return Predictions(values, largest + total.log(), probabilities.div_(total), logits.argmax(-1))


def _compare(base: Predictions, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Float64 [numbers of a token, tokens]."""
    variant, targets = _predictions(logits), targets[:, None]
    normalizers = variant.normalizers - base.normalizers
    terms = variant.probabilities - base.probabilities
    distance = torch.linalg.vector_norm(terms, ord=1, dim=-1)
    base_nll, variant_nll = ((one.normalizers - one.logits.gather(-1, targets))[:, 0] for one in (base, variant))
    differences = variant.logits.sub_(base.logits).sub_(normalizers)  # of log-probabilities
    kl = terms.addcmul_(base.probabilities, differences, value=-1).sum(-1).clamp_min_(0)
    agreed = (base.most_probable == variant.most_probable).double()
    return torch.stack([kl, base_nll, variant_nll, agreed, 1 - 0.5 * distance])


def joined(parts: list[Comparison]) -> Comparison:
    """The comparisons of consecutive tokens as one."""
    return Comparison(*map(np.concatenate, zip(*parts, strict=True)))


def stacked(samples: list[Comparison]) -> Comparison:
    """The comparisons of samples of equal length as one, each number [samples, tokens]."""
    return Comparison(*map(np.stack, zip(*samples, strict=True)))
