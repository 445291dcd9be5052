"""Which variants pay as drafts of the base, at how many drafted tokens, and why the others do not. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from drop_ray.config.drafts import MOST_DRAFTED
from drop_ray.planning.draft_costs import DraftCost
from drop_ray.planning.search.drafts import speedup


@dataclass(frozen=True)
class Candidate:
    """A variant that may draft."""

    name: str
    """Name of the variant."""
    acceptance: float
    """The part of its tokens that the base keeps."""
    cost: DraftCost
    """What its steps cost."""


@dataclass(frozen=True)
class DraftPlan:
    """A variant as a draft, at the number of drafted tokens that suits it best."""

    name: str
    """Name of the variant."""
    acceptance: float
    """The part of its tokens that the base keeps."""
    cost: float
    """Time of its decoding step over the base's."""
    tokens: int
    """Drafted tokens of a step."""
    verification: float
    """Time of the base's step on one token more than that, over its step on one."""
    speedup: float
    """Predicted, over the base without a draft."""

    @property
    def pays(self) -> bool:
        return self.speedup > 1

    @property
    def reason(self) -> str:
        """Why it pays or does not, as a clause.

        Where verification costs nothing more, the k drafted tokens save a + ... + a^k <= k a steps and cost k c of
        them: with a <= c no number of them pays.
        """
        if self.pays:
            return f"predicted to be {self.speedup:.2f} times as fast at k = {self.tokens}"
        if self.acceptance <= self.cost:
            return (
                f"cannot pay: a step of it takes {self.cost:.2f} of the base's, and no more than "
                f"{self.acceptance:.2f} of its tokens are kept"
            )
        return (
            f"cannot pay: the base's step on {self.tokens + 1} tokens takes {self.verification:.2f} times its step on "
            "one, as operations are what it waits for at this batch"
        )


def plan_draft(candidate: Candidate) -> DraftPlan:
    """The candidate at its best number of drafted tokens, from 1 to `MOST_DRAFTED`, the lowest of equals.

    ValueError for an acceptance that is no part, and for a cost that is not positive.
    """
    cost = candidate.cost
    if not 0 <= candidate.acceptance <= 1:
        raise ValueError(f"{candidate.name}: {candidate.acceptance} is no part of its tokens")
    if not cost.step > 0:
        raise ValueError(f"{candidate.name}: a step cannot cost {cost.step}")
    found = {
        tokens: speedup(candidate.acceptance, cost.step, tokens, cost.verification[tokens - 1])
        for tokens in range(1, MOST_DRAFTED + 1)
    }
    best = max(found, key=lambda tokens: (found[tokens], -tokens))
    return DraftPlan(candidate.name, candidate.acceptance, cost.step, best, cost.verification[best - 1], found[best])


def ranked(candidates: Iterable[Candidate]) -> list[DraftPlan]:
    """All candidates, the fastest first; those equally fast in their order."""
    return sorted(map(plan_draft, candidates), key=lambda plan: -plan.speedup)
