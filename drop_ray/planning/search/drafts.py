"""How much faster a model decodes with a draft model: Leviathan et al., arXiv 2211.17192, theorem 3.8."""

from drop_ray.config.drafts import MOST_DRAFTED

"""Largest number of draft tokens in a round that is considered."""


def tokens_per_step(acceptance: float, tokens: int) -> float:
    """Expected tokens of a step with that many draft tokens: (1 - a^(k+1)) / (1 - a).

    acceptance: the part a of the draft's tokens that the model keeps, taken as independent of each other.
    """
    # The quotient is the sum of a^0 to a^k, which is defined at a = 1 too.
    return sum(acceptance**power for power in range(tokens + 1))


def speedup(acceptance: float, cost: float, tokens: int, verification: float = 1.0) -> float:
    """Expected speedup with that many draft tokens a step: (1 - a^(k+1)) / ((1 - a) (v + k c)).

    cost: time c of a decoding step of the draft over one of the model. verification: time v of the model's step on
    k + 1 tokens over its step on one, which is 1 as long as memory is what it waits for.
    """
    return tokens_per_step(acceptance, tokens) / (verification + tokens * cost)


def best_speedup(acceptance: float, cost: float) -> tuple[int, float]:
    """The number of draft tokens, from 1 to `MOST_DRAFTED`, with the highest speedup, and that; the lowest of equals.

    0 is left out: with no draft tokens all drafts would be equally fast.
    """
    tokens = max(range(1, MOST_DRAFTED + 1), key=lambda count: (speedup(acceptance, cost, count), -count))
    return tokens, speedup(acceptance, cost, tokens)
