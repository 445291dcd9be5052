"""What a variant loses against the base, with one-sided bounds that hold for few documents too.

A loss is the base's value less the variant's, on the documents that both have. Answers are right or wrong, so that a
difference is -1, 0 or 1, and mostly 0: of few documents none may differ, and a standard error of 0 would call every
loss impossible. The bounds of such differences are those of the score test (Tango, Statistics in Medicine 17, 1998),
which says of n documents without any difference that the loss is at most about 2.7 / n at 95 %. Other differences, such
as those of F1 or of KL, have the bounds of Student's t.

Bounds of a mean over tasks come from the bounds of the tasks (MOVER; Zou and Donner, Statistics in Medicine 27, 2008):
the distances from values to bounds add up as standard errors do.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from scipy.special import stdtrit

HALVINGS = 50
"""Of an interval that is known to hold a bound: 2 ** -50 is nothing beside it."""
MOST_TIMES = 1e6
"""So many times the documents are never asked for."""


@dataclass(frozen=True)
class Loss:
    """A loss with its bounds."""

    value: float
    """Mean loss; below 0 is a gain."""
    low: float
    """The true loss is at least this."""
    high: float
    """The true loss is at most this."""


class Evidence(ABC):
    """What is known of the loss on one task."""

    documents: float
    """Documents that it is known from."""

    @abstractmethod
    def loss(self, confidence: float, times: float = 1.0) -> Loss:
        """The loss with its one-sided bounds; times: as from so many times the documents with the same proportions."""


@dataclass(frozen=True)
class Answers(Evidence):
    """Right and wrong answers of both sides."""

    lost: float
    """Documents that only the base has right."""
    gained: float
    """Documents that only the variant has right."""
    documents: float
    """All documents."""

    def loss(self, confidence: float, times: float = 1.0) -> Loss:
        counts = (times * self.lost, times * self.gained, times * self.documents)
        lost, gained, documents = counts
        high = _score_bound(*counts, confidence)
        low = -_score_bound(gained, lost, documents, confidence)
        return Loss((lost - gained) / documents, low, high)


@dataclass(frozen=True)
class Differences(Evidence):
    """Differences of any size."""

    mean: float
    """Mean loss."""
    variance: float
    """Unbiased variance of the losses."""
    documents: float
    """Two at least."""

    def loss(self, confidence: float, times: float = 1.0) -> Loss:
        documents = times * self.documents
        half = float(stdtrit(documents - 1, confidence)) * math.sqrt(self.variance / documents)
        return Loss(self.mean, self.mean - half, self.mean + half)


@dataclass(frozen=True)
class Settled(Evidence):
    """An interval that was made while documents were evaluated, and that no further one would be made from."""

    value: float
    """The loss."""
    low: float
    """Its lower bound."""
    high: float
    """Its upper bound."""
    documents: float
    """Documents that it took."""

    def loss(self, confidence: float, times: float = 1.0) -> Loss:
        """The bounds are those of the interval, at its own confidence: whoever makes one compares the two."""
        del confidence
        shrunk = 1 / math.sqrt(times)
        low, high = self.value - shrunk * (self.value - self.low), self.value + shrunk * (self.high - self.value)
        return Loss(self.value, low, high)


def evidence(base: Mapping[int, float], variant: Mapping[int, float]) -> Evidence | None:
    """From values by document, higher being better; None without common documents, or for one that is not an answer."""
    losses = [base[doc_id] - variant[doc_id] for doc_id in sorted(base.keys() & variant.keys())]
    if losses and {*losses} <= {-1.0, 0.0, 1.0}:
        return Answers(losses.count(1.0), losses.count(-1.0), len(losses))
    return differences(losses)


def differences(losses: Sequence[float]) -> Differences | None:
    """Of losses of any size; None of fewer than two."""
    count = len(losses)
    if count < 2:
        return None
    mean = math.fsum(losses) / count
    return Differences(mean, math.fsum((loss - mean) ** 2 for loss in losses) / (count - 1), count)


def mean_loss(tasks: Sequence[Evidence], confidence: float, times: float = 1.0) -> Loss:
    """The mean over tasks, whose documents are independent. ValueError without tasks."""
    if not tasks:
        raise ValueError("a mean over no tasks")
    found = [one.loss(confidence, times) for one in tasks]
    value = math.fsum(loss.value for loss in found) / len(found)
    below = math.sqrt(math.fsum((loss.value - loss.low) ** 2 for loss in found)) / len(found)
    above = math.sqrt(math.fsum((loss.high - loss.value) ** 2 for loss in found)) / len(found)
    return Loss(value, value - below, value + above)


def documents_to_tell(tasks: Sequence[Evidence], confidence: float, allowed: float) -> float | None:
    """Mean number of documents of a task from which a bound is on the same side of the allowed loss as the mean loss.

    It is reckoned as if more documents had the proportions and the variance of those that are known. None where the
    mean loss is so near to the allowed one that even `MOST_TIMES` the documents would not tell.
    """

    def tells(times: float) -> bool:
        loss = mean_loss(tasks, confidence, times)
        return loss.high <= allowed or loss.low > allowed

    if not tells(MOST_TIMES):
        return None
    few, many = 0.0, math.log(MOST_TIMES)  # so many times the documents are not and are enough
    for _ in range(HALVINGS):
        middle = (few + many) / 2
        few, many = (few, middle) if tells(math.exp(middle)) else (middle, many)
    return math.exp(many) * math.fsum(one.documents for one in tasks) / len(tasks)


def _score_bound(lost: float, gained: float, documents: float, confidence: float) -> float:
    """The largest loss that the one-sided score test does not reject, by halving."""
    quantile = NormalDist().inv_cdf(confidence)
    below, above = (lost - gained) / documents, 1.0
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        rejected = _score(lost, gained, documents, middle) < -quantile
        below, above = (below, middle) if rejected else (middle, above)
    return above


def _score(lost: float, gained: float, documents: float, loss: float) -> float:
    """Tango's statistic: how many standard errors the losses are above `loss`, were that the true one.

    Its variance takes the most likely share of gains for that loss.
    """
    square, slope = 2 * documents, (2 * documents - lost + gained) * loss - lost - gained
    gains = (math.sqrt(slope**2 + 4 * square * gained * loss * (1 - loss)) - slope) / (2 * square)
    spread = documents * (2 * gains + loss * (1 - loss))
    return (lost - gained - documents * loss) / math.sqrt(spread) if spread > 0 else 0.0
