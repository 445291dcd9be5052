"""A model as the evaluation asks it: token ids in, log-likelihoods and greedy tokens out, whatever computes them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from drop_ray.text.progress import ignore_progress

# What is said of numbers that are not finite, whose cause only transformers can be asked for.
ENGINE_CAUSE = "an engine does not say why; evaluate it with evaluation.backend: hf, which names the weight or layer"


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


@dataclass
class TokenCounts:
    """What was asked of a model, and what it computed, since it was loaded. Padding counts for neither."""

    asked: int = 0
    """Tokens of all requests, as if each were computed by itself."""
    computed: int = 0
    """Tokens that passed through the model; those that requests share count once."""

    def add(self, asked: int, computed: int | None = None) -> None:
        """Count tokens that were asked for, of which fewer may have been computed."""
        self.asked += asked
        self.computed += asked if computed is None else computed

    def since(self, before: "TokenCounts") -> dict[str, float]:
        """What a unit adds to the record of its commit."""
        return {"asked_tokens": self.asked - before.asked, "computed_tokens": self.computed - before.computed}


class TokenModel(Protocol):
    """A loaded model, in transformers or in an engine."""

    counts: TokenCounts
    progress: Callable[[int, int], None]
    """Told how many of the requests of a call are answered."""

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens."""

    def likelihoods(self, requests: Sequence[Continuation]) -> list[Likelihood]:
        """The answers, in the order of the requests. None of them may be longer than `max_length`."""

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, stop: Sequence[int] = ()
    ) -> list[tuple[int, ...]]:
        """Greedy tokens after each prompt: at most `max_tokens`, and none after one of `stop`, which is included."""


@contextmanager
def telling(model: TokenModel | None, progress: Callable[[int, int], None]) -> Iterator[None]:
    """While it is open, the model tells `progress` how many of the requests of a call it has answered."""
    if model is None:
        yield
        return
    model.progress = progress
    try:
        yield
    finally:
        model.progress = ignore_progress


class Completion(NamedTuple):
    """How a text is to be completed."""

    max_tokens: int
    """Most tokens."""
    stop_tokens: tuple[int, ...]
    """Token ids that end it; there are no others."""
    stop: tuple[str, ...]
    """Strings that end it."""
    sampling: tuple[tuple[str, float], ...] = ()
    """Settings by which tokens are drawn, by name; the most probable token is taken if there are none."""


class Completed(NamedTuple):
    """A completed text."""

    tokens: tuple[int, ...]
    """Token ids, the stop included."""
    is_finite: bool
    """Whether they were chosen from finite numbers."""


class CompletingModel(TokenModel, Protocol):
    """A token model that also completes texts up to a string: an engine."""

    def complete(self, prompts: Sequence[Sequence[int]], how: Sequence[Completion]) -> list[Completed]:
        """Each prompt completed in its own way."""
