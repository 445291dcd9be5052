"""What a gate is, and how items are drawn and asked that are decided by likelihoods."""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.evaluation.gates.result import GateResult
from drop_ray.evaluation.gates.writer import TokenIds
from drop_ray.evaluation.tokens.token_model import Continuation, Likelihood, TokenModel


@dataclass(frozen=True)
class Item:
    """One question of a gate."""

    context: TokenIds
    """Token ids that come before the answer."""
    candidates: tuple[TokenIds, ...]
    """Answers, of which the first is right. A single one must be the most probable continuation, token by token."""

    @property
    def requests(self) -> list[Continuation]:
        return [Continuation(self.context, candidate) for candidate in self.candidates]

    @property
    def longest(self) -> int:
        """Tokens of the longest request."""
        return len(self.context) + max(map(len, self.candidates))

    def is_right(self, answers: Sequence[Likelihood]) -> bool:
        """The right candidate must be likelier than every other; a tie is not right."""
        first, *others = answers
        return first.total > max(one.total for one in others) if others else first.is_greedy


class Gate(ABC):
    """A test of what a model must still be able to do."""

    name: str
    """Its name in files."""
    title: str
    """Its name for people."""

    @abstractmethod
    def ask(self, model: TokenModel) -> list[GateResult]:
        """Put all items to a model. NotFiniteError if the model cannot answer for numbers that are not finite."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """Tokens of its longest sequence, prompt and answer."""


@dataclass(frozen=True)
class LikelihoodGate(Gate):
    """A gate whose items are decided by likelihoods."""

    name: str
    """Its name in files."""
    title: str
    """Its name for people."""
    items: tuple[Item, ...]
    """Its questions, all with the same number of candidates."""

    @property
    def chance(self) -> float:
        """What guessing among candidates gets right; nobody guesses a whole continuation."""
        candidates = len(self.items[0].candidates)
        return 1 / candidates if candidates > 1 else 0.0

    @property
    def longest(self) -> int:
        return max(item.longest for item in self.items)

    def ask(self, model: TokenModel) -> list[GateResult]:
        """One result. All requests are put at once, so that the model can order them."""
        requests = [request for item in self.items for request in item.requests]
        answers = iter(model.likelihoods(requests))
        by_item = [[next(answers) for _ in item.candidates] for item in self.items]
        faults = [found.total for answered in by_item for found in answered if not math.isfinite(found.total)]
        if faults:
            fault = f"{len(faults)} of {len(requests)} log-likelihoods are not finite ({faults[0]})"
            return [GateResult(self.name, self.title, self.chance, fault=fault)]
        right = tuple(item.is_right(answered) for item, answered in zip(self.items, by_item, strict=True))
        return [GateResult(self.name, self.title, self.chance, right)]


def random_of(name: str, seed: int, number: int) -> random.Random:
    """The generator of one item: a larger number of items begins with the items of a smaller one."""
    return random.Random(f"{name}/{seed}/{number}")
