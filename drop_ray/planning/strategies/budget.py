"""`budget`: drops what keeps the plan's limits at the smallest sum of scores, then swaps as long as that helps.

Scores are measured with one module missing, and the sum of several is only a first guess of what they cost together. So
neighbours of the first solution that keep the limits too are measured as they are.
"""

from drop_ray.planning.modules import Module, ranked
from drop_ray.planning.strategies.search import Modules, Round, Search, Steps, Task

SWAPS = 8
"""Swaps that a round measures, unless the plan says `width`."""


class BudgetStrategy(Search):
    """Each round measures the best swaps by the sum of scores. The best of them is made if the value falls by it.

    It ends with a round that finds no better drop, and after the plan's `swap_rounds`. No drop is measured twice.
    """

    def search(self, task: Task) -> Steps:
        """What is dropped, most redundant first: not `task.count`, but as much as the limits of `task.budget` ask."""
        budget = task.budget
        assert budget is not None, "a plan without limits is refused"
        order = {module: place for place, module in enumerate(ranked(budget.scores))}

        def in_order(dropped: frozenset[Module]) -> Modules:
            return tuple(sorted(dropped, key=order.__getitem__))

        best = budget.solve()
        values: dict[Modules, float] = {}
        for _ in range(budget.rounds):
            near = [in_order(swap.of(best)) for swap in budget.swaps(best, task.width or SWAPS)]
            asked = tuple(drop for drop in dict.fromkeys((best, *near)) if drop not in values)
            if asked:
                values |= yield Round((), asked)
            # The first of equal values: what was there before, then in the order of the swaps.
            better = min((best, *near), key=values.__getitem__)
            if better == best:
                break
            best = better
        return best


BUDGET = BudgetStrategy(of=None, uses_scores=True, objectives=("kl",), has_width=True, limited=True)
