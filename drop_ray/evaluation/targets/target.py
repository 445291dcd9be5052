"""A task that ends when the difference to the base is known: which documents come when, and when it is enough.

All is decided by the seed, the task's name and the base's documents, so that every worker ends at the same document.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from drop_ray.errors import UserError
from drop_ray.evaluation.estimates import Estimate
from drop_ray.evaluation.targets.betting import mean_difference_interval

Document = tuple[str, int]
"""Leaf task and doc_id."""
Values = Mapping[Document, float]
"""A metric by document."""

ALGORITHM = 1
"""Of the order, the looks and the interval: raised when one of them changes."""
FIRST_LOOK = 64
GROWTH = 1.1


@dataclass(frozen=True)
class Target:
    """How well the difference between a variant and the base is to be known."""

    within: float
    """Half the width of the interval at which to stop."""
    confidence: float
    """Probability with which the interval holds at all looks at once."""

    def __post_init__(self) -> None:
        if not 0 < self.within < 1 or not 0.5 < self.confidence < 1:
            raise UserError("evaluation.limit: within is between 0 and 1, confidence between 0.5 and 1")


@dataclass(frozen=True)
class Outcome:
    """How a task with a target ended on one variant."""

    task: str
    """Task or group whose difference was sought."""
    metric: str
    """Its primary metric."""
    filter: str
    """Name of the post-processing of answers."""
    within: float
    """Half the width that was asked for."""
    confidence: float
    """Confidence that was asked for."""
    documents: int
    """Documents that the variant was evaluated on."""
    population: int
    """Documents of the task, on all of which the base was evaluated."""
    difference: float | None
    """Mean of variant less base on the variant's documents; None where there is no interval."""
    low: float | None
    """Lower end of the interval of the difference over all documents."""
    high: float | None
    """Upper end."""
    no_interval: str = ""
    """Why there is no interval; empty where there is one."""


@dataclass
class Pursuit:
    """One task or group on its way to the target."""

    name: str
    """Task or group."""
    metric: str
    """Its primary metric."""
    filter: str
    """Name of the post-processing of answers."""
    base: Values
    """The base's values of all documents, in [0, 1]."""
    target: Target
    """What is sought."""
    seed: int
    """Decides the order of the documents."""
    seen: dict[Document, float] = field(default_factory=dict)
    """The variant's values so far."""
    interval: tuple[float, float] = (-1.0, 1.0)
    """Of the mean difference over all documents."""

    def __post_init__(self) -> None:
        self._order = seeded_order(self.seed, self.name, self.base)

    @property
    def is_over(self) -> bool:
        low, high = self.interval
        return len(self.seen) == len(self.base) or (high - low) / 2 <= self.target.within

    def next_documents(self) -> list[Document]:
        """Those up to the next look; none when it is over."""
        if self.is_over:
            return []
        return self._order[len(self.seen) : next_look(len(self.seen), len(self.base))]

    def take(self, values: Values) -> None:
        """The variant's values of the documents that were next. ValueError for a value outside of [0, 1], or none."""
        for document in self.next_documents():
            value = values.get(document, math.nan)
            if not 0 <= value <= 1:
                raise ValueError(f"{self.name}: {self.metric} is {value} on a document, not in [0, 1]")
            self.seen[document] = value
        differences = [self.seen[document] - self.base[document] for document in self._order[: len(self.seen)]]
        if len(self.seen) == len(self.base):
            self.interval = (self.difference, self.difference)
        else:
            within, confidence = self.target.within, self.target.confidence
            self.interval = mean_difference_interval(differences, len(self.base), within, confidence)

    @property
    def difference(self) -> float:
        """Mean of variant less base on the documents so far."""
        return math.fsum(value - self.base[document] for document, value in self.seen.items()) / len(self.seen)

    def outcome(self, spoiled: bool = False) -> Outcome:
        """How it ended; `spoiled` by an answer that is not finite, it has no difference."""
        asked = self.target.within, self.target.confidence
        place = self.name, self.metric, self.filter, *asked, len(self.seen), len(self.base)
        if spoiled:
            return Outcome(*place, None, None, None, "an answer is not finite")
        return Outcome(*place, self.difference, *self.interval)


def seeded_order(seed: int, name: str, documents: Iterable[Document]) -> list[Document]:
    """The documents in a random order that only the seed, the name and they themselves decide.

    The documents of a group stand in one order, so that at every look each of its tasks has about its part of them.
    """

    def key(document: Document) -> str:
        return hashlib.sha256(f"{seed}\n{name}\n{document[0]}\n{document[1]}".encode()).hexdigest()

    return sorted(documents, key=lambda document: (key(document), document))


def next_look(seen: int, population: int) -> int:
    """The number of documents at the next look: 64 more, or a tenth more in steps of 64; all where few are left."""
    following = max(seen + FIRST_LOOK, math.ceil(seen * GROWTH / FIRST_LOOK) * FIRST_LOOK)
    return min(following, population)


def looks(population: int) -> Iterator[int]:
    """Numbers of documents at all looks."""
    seen = 0
    while seen < population:
        seen = next_look(seen, population)
        yield seen


def estimate_over_all(base: Values, seen: Values) -> Estimate:
    """A variant's mean over all documents: the base's mean over them, plus the mean difference where both are known.

    The base is a control variate. Its standard error is over documents like these, as that of a mean is: with n of N
    documents seen, (var(b) + 2 cov(b, d)) / N + var(d) / n, which is var(variant) / N at n = N.
    """
    population, count = len(base), len(seen)
    of_base, differences = [base[document] for document in seen], [seen[document] - base[document] for document in seen]
    mean, difference = math.fsum(base.values()) / population, math.fsum(differences) / count
    if count < 2:
        return Estimate(mean + difference, None)
    mean_seen = math.fsum(of_base) / count
    covariance = math.fsum(
        (one - mean_seen) * (other - difference) for one, other in zip(of_base, differences, strict=True)
    ) / (count - 1)
    variance = math.fsum((value - mean) ** 2 for value in base.values()) / (population - 1)
    of_difference = math.fsum((one - difference) ** 2 for one in differences) / (count - 1)
    square = (variance + 2 * covariance) / population + of_difference / count
    return Estimate(mean + difference, math.sqrt(max(0.0, square)))
