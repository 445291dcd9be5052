"""Whether an engine with a draft generates the model's own greedy tokens, as speculation must."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drop_ray.serving.engine import EightBits, Engine, Prompts
from drop_ray.serving.gate import tolerance_of

Tokens = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Identity:
    """What a comparison of greedy tokens has found."""

    prompts: int
    """Number of prompts."""
    identical: int
    """Number of those of which all tokens are equal."""
    margin: float | None
    """Of the others, the largest margin of the model's own token over the other one at the first that differs."""
    allowed: float
    """Largest margin of two tokens that rounding may exchange; 0 where none may be."""

    @property
    def holds(self) -> bool:
        # Written so that a NaN does not hold.
        return self.margin is None or (self.allowed > 0 and self.margin <= self.allowed)

    def __add__(self, other: "Identity") -> "Identity":
        """Of the prompts of both."""
        margins = [margin for margin in (self.margin, other.margin) if margin is not None]
        found = (self.prompts + other.prompts, self.identical + other.identical, max(margins, default=None))
        return Identity(*found, self.allowed)


def allowed_margin(dtype: str, device: str, in_8_bits: EightBits | None = None) -> float:
    """Largest margin, in log-probability, of two tokens that rounding may exchange.

    In float32 on a CPU, with nothing in 8 bits, every token must be the model's own. Elsewhere a step on several tokens
    runs other kernels than a step on one, and of two tokens that are about as probable either is right: as far apart as
    the gate lets the log-probabilities of both be wrong.
    """
    is_exact = dtype == "float32" and device == "cpu" and in_8_bits is None
    return 0.0 if is_exact else 2 * tolerance_of(dtype, in_8_bits).p99


def compare(engine: Callable[[], Engine], prompts: Prompts, own: Tokens, drafted: Tokens, allowed: float) -> Identity:
    """Compare the greedy tokens of an engine without a draft with those of one that has one.

    Where they part, the engine without one scores both tokens after what is common to them; it is asked for only then.
    """
    parted = [
        (list(prompt), first, _parting(first, other), other)
        for prompt, first, other in zip(prompts, own, drafted, strict=True)
        if tuple(first) != tuple(other)
    ]
    if not parted:
        return Identity(len(prompts), len(prompts), None, allowed)
    contexts = [prompt + list(first[:place]) for prompt, first, place, _ in parted]
    own_tokens = [[first[place]] for _, first, place, _ in parted]
    other_tokens = [[other[place]] for _, _, place, other in parted]
    margins = [
        before - after
        for before, after in zip(
            _last_logprobs(engine(), contexts, own_tokens),
            _last_logprobs(engine(), contexts, other_tokens),
            strict=True,
        )
    ]
    return Identity(len(prompts), len(prompts) - len(parted), max(margins), allowed)


def _parting(one: Sequence[int], other: Sequence[int]) -> int:
    """The first place at which they differ."""
    return next(place for place, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])


def _last_logprobs(engine: Engine, contexts: Prompts, tokens: Prompts) -> list[float]:
    """The log-probability of each token after its context."""
    return [
        float(engine.score_prompts([[*context, *token]]).logprobs[-1])
        for context, token in zip(contexts, tokens, strict=True)
    ]
