"""The cheapest drop that keeps limits: a knapsack with several constraints, solved exactly by SciPy's MILP (HiGHS)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drop_ray.planning.budgets.limits import Limit
from drop_ray.planning.modules import Module, ranked

# HiGHS ends when its solution is within an absolute 1e-6 of the optimum: scores are scaled up, so that this is 1e-11 of
# the largest.
LARGEST_SCORE = 1e5
# Savings may fall short by HiGHS's tolerance of 1e-6. Such a solution is excluded, and the next one is looked for.
MOST_EXCLUDED = 1000


def cheapest(scores: Mapping[Module, float], limits: Sequence[Limit]) -> list[Module]:
    """The modules to drop so that all limits hold, with the smallest sum of scores; in the order of `ranked`.

    scores: of everything that may be dropped. ValueError if the limits cannot be reached. Among modules that save the
    same of everything, the first ones in that order are taken, which makes the solution unique where savings differ by
    kind only, as in most models. Other sums that differ by less than 1e-11 of the largest score count as equal, and one
    of them is returned, always the same for one version of SciPy.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    modules = ranked(scores)
    if not modules:
        raise ValueError("there is nothing to drop")
    values = np.array([scores[module] for module in modules])
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    rows = [*_savings(modules, limits), *_in_order(modules, limits)]
    scaled = values * (LARGEST_SCORE / (np.abs(values).max() or 1.0))
    for _ in range(MOST_EXCLUDED):
        coefficients, bounds = zip(*rows, strict=True) if rows else ((), ())
        found = milp(
            scaled,
            integrality=np.ones(len(modules)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(np.array(coefficients), np.array(bounds), np.inf)] if rows else [],
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None:
            raise ValueError(f"the limits cannot be reached: {found.message}")
        taken = found.x > 0.5
        chosen = [module for module, is_taken in zip(modules, taken, strict=True) if is_taken]
        if all(limit.holds(chosen) for limit in limits):
            return chosen
        # At least one module must be other than in this solution.
        rows.append((np.where(taken, -1.0, 1.0), 1.0 - int(taken.sum())))
    raise ValueError("the limits are too close to each other to be kept exactly")


Row = tuple[NDArray[np.float64], float]
"""A constraint: coefficients of the modules, and the least that their sum must be."""


def _savings(modules: Sequence[Module], limits: Sequence[Limit]) -> list[Row]:
    """What is dropped saves as much of each resource as is needed, in units of the largest saving."""
    rows: list[Row] = []
    for limit in limits:
        saved = np.array([float(limit.resource.saved[module]) for module in modules])
        unit = float(saved.max())
        if limit.needed > 0:
            rows.append((saved / unit, limit.needed / unit) if unit else (saved, math.inf))
    return rows


def _in_order(modules: Sequence[Module], limits: Sequence[Limit]) -> list[Row]:
    """Of modules that save the same of everything, none is dropped before the one ahead of it."""
    rows: list[Row] = []
    last: dict[tuple[float, ...], int] = {}
    for position, module in enumerate(modules):
        kind = tuple(limit.resource.saved[module] for limit in limits)
        if kind in last:
            row = np.zeros(len(modules))
            row[last[kind]], row[position] = 1.0, -1.0
            rows.append((row, 0.0))
        last[kind] = position
    return rows
