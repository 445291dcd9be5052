"""A model as the evaluation asks it: token ids in, log-likelihoods and greedy tokens out, whatever computes them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Continuation(NamedTuple):
    """A question: how likely is `target` after `context`?"""

    context: tuple[int, ...]
    """Token ids that come before, at least one."""
    target: tuple[int, ...]
    """Token ids that are judged, at least one."""


class Likelihood(NamedTuple):
    """The answer to a Continuation."""

    total: float
    """Sum of the log-probabilities of the target's tokens, in nats."""
    is_greedy: bool
    """Whether every token of the target is the most probable one at its place."""


class TokenModel(Protocol):
    """A loaded model, in transformers or in an engine."""

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens."""

    def likelihoods(self, requests: Sequence[Continuation]) -> list[Likelihood]:
        """The answers, in the order of the requests. None of them may be longer than `max_length`."""

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, stop: Sequence[int] = ()
    ) -> list[tuple[int, ...]]:
        """Greedy tokens after each prompt: at most `max_tokens`, and none after one of `stop`, which is included."""
