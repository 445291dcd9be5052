"""What came of a budget: what was reckoned, what the plan is reckoned to have, and what was measured."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from drop_ray.planning.budgets.budget import Budget
from drop_ray.planning.modules import Module


@dataclass(frozen=True)
class Kept:
    """One limit, with what is compared with it: bytes, a number of sub-layers, or a speedup."""

    name: str
    """Its key in the config, such as `bytes`."""
    asked: str
    """What the config gives, such as `24 GB`."""
    limit: float
    """The same as a number: what may be left at most, or the least speedup."""
    base: float
    """That of the model as given."""
    solution: float
    """That of the knapsack's solution."""
    plan: float
    """That of the plan, after the swaps."""


@dataclass(frozen=True)
class Outcome:
    """What came of a plan's limits."""

    limits: tuple[Kept, ...]
    """The limits, in the order of the config's fields."""
    at: tuple[int, int, int] | None
    """Prompt tokens, output tokens and batch size of the requests that a speedup is of."""
    quantized: str | None
    """Name of the line of `quantization` after which the limits hold; None is before."""
    file_bytes: int | None
    """Size of the weight files of the plan's model in the run's dtype; None where the limits are of a quantized one."""
    solution: tuple[tuple[str, int], ...]
    """The modules that the knapsack's solution drops, by kind and layer, most redundant first."""
    score_solution: float
    """Sum of the scores of these."""
    score_plan: float
    """The same of what the plan drops."""
    kl_solution: float
    """Mean KL(base || model) per token of the calibration samples, in nats, of the knapsack's solution."""
    kl_plan: float
    """The same of the plan."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def kept_limits(budget: Budget, solution: Collection[Module], plan: Collection[Module]) -> tuple[Kept, ...]:
    """The limits as the knapsack's solution and the plan keep them."""
    return tuple(
        Kept(
            name=limit.name,
            asked=str(limit.quantity),
            limit=limit.bound,
            base=limit.value_of(limit.resource.base),
            solution=limit.value(solution),
            plan=limit.value(plan),
        )
        for limit in budget.limits
    )
