"""Whether an engine may sample with a draft: nearly all that the model drafts for itself is kept, and what comes out
is distributed as without a draft. Pure: what engines generated is judged here."""

from collections.abc import Sequence
from dataclasses import dataclass

from drop_ray.serving.engine import Drafted
from drop_ray.serving.two_samples import p_value

LEAST_KEPT = 0.98
"""Least share of the tokens at a position that are kept where those before were. In exact arithmetic it is 1."""
LEVEL = 0.01
"""How often distributions that are equal are taken to differ, over all tests of a gate."""

Tokens = Sequence[Sequence[int]]
"""Tokens of continuations, all of one length."""


@dataclass(frozen=True)
class SamplingGate:
    """What a gate found."""

    temperature: float
    """The temperature."""
    tokens: int
    """Tokens that were drafted before each step."""
    kept: tuple[float, ...]
    """By position, the share of drafted tokens that were kept where all before them were; 0 where none ever were."""
    samples: int
    """Continuations of each prompt, with a draft and without."""
    tests: int
    """Comparisons of distributions: one for each prompt and position."""
    smallest_p: float
    """The smallest p-value of them."""
    least_kept: float = LEAST_KEPT
    """What must be kept at least."""
    level: float = LEVEL
    """What the smallest p-value, times the number of tests, must be at least."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why sampling is refused; empty if the gate holds."""
        found = []
        # Written so that a NaN is refused.
        if not all(share >= self.least_kept for share in self.kept):
            shares = ", ".join(f"{100 * share:.1f}" for share in self.kept)
            found.append(
                f"of the tokens that the model drafted for itself {shares} % were kept, by position, and nearly all "
                f"should be ({100 * self.least_kept:.0f} %)"
            )
        if not self.smallest_p * self.tests >= self.level:
            found.append(
                f"what comes out is distributed otherwise than without a draft: the smallest of {self.tests} p-values "
                f"is {self.smallest_p:.2g}, and {self.level / self.tests:.2g} is needed"
            )
        return tuple(found)

    @property
    def holds(self) -> bool:
        return not self.reasons


def judge(
    temperature: float, drafted: Drafted, without: Sequence[Tokens], drafting: Sequence[Tokens], seed: int
) -> SamplingGate:
    """Judge the continuations of some prompts, without a draft and with the model as its own.

    The first token of each is left out: it comes with the prompt, before anything is drafted.
    """
    tests = [
        (number, place, [row[place] for row in own], [row[place] for row in other])
        for number, (own, other) in enumerate(zip(without, drafting, strict=True))
        for place in range(1, len(own[0]))
    ]
    values = [p_value(own, other, seed + 1000 * number + place) for number, place, own, other in tests]
    before = (drafted.steps, *drafted.accepted)
    kept = tuple(count / of if of else 0.0 for of, count in zip(before, drafted.accepted, strict=False))
    return SamplingGate(temperature, len(drafted.accepted), kept, len(without[0]), len(tests), min(values))
