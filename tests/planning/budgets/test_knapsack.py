"""The knapsack against all subsets, and its ties."""

import itertools
import math
import random

import pytest

from drop_ray.planning.budgets.budget import Budget
from drop_ray.planning.budgets.knapsack import cheapest
from drop_ray.planning.budgets.limits import Limit
from drop_ray.planning.budgets.resources import Resource
from drop_ray.planning.modules import Module, ranked
from drop_ray.text.quantities import Quantity


def modules(count):
    return [Module(kind, layer) for layer in range(count // 2) for kind in ("attention", "mlp")]


def limit(saved, most):
    """At most so much is left of a resource of which nothing lies outside of the modules."""
    total = sum(saved.values())
    return Limit("bytes", Quantity(repr(most), "B"), Resource(total, total, saved))


def case(seed, count, kinds, like_a_model):
    draw = random.Random(seed)
    there = modules(count)
    scores = {module: draw.choice([draw.lognormvariate(-3, 1), draw.randint(0, 3)]) for module in there}
    limits = []
    for kind in range(kinds):
        by_kind = {"attention": (150, 4, 1)[kind] * 10**6, "mlp": (700, 0, 1)[kind] * 10**6}
        saved = {module: by_kind[module.kind] if like_a_model else draw.randint(10**8, 3 * 10**8) for module in there}
        limits.append(limit(saved, int(sum(saved.values()) * draw.uniform(0.3, 0.9))))
    return scores, limits


def all_subsets(scores, limits):
    """The smallest sum, by looking at every drop."""
    drops = itertools.chain.from_iterable(itertools.combinations(scores, count) for count in range(len(scores) + 1))
    return min(math.fsum(scores[module] for module in drop) for drop in drops if all(one.holds(drop) for one in limits))


@pytest.mark.parametrize("like_a_model", [True, False])
@pytest.mark.parametrize("kinds", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_no_subset_of_twelve_is_cheaper(seed, kinds, like_a_model):
    scores, limits = case(seed, 12, kinds, like_a_model)
    chosen = cheapest(scores, limits)
    assert all(one.holds(chosen) for one in limits)
    assert math.fsum(scores[module] for module in chosen) == pytest.approx(all_subsets(scores, limits), abs=1e-12)
    assert chosen == [module for module in ranked(scores) if module in chosen]


@pytest.mark.parametrize("seed", range(3))
def test_a_hundred_and_sixty_sub_layers_are_solved_exactly(seed):
    """Where savings differ by kind only, the first of each kind are taken: all pairs of counts are looked at."""
    scores, limits = case(seed, 160, 2, like_a_model=True)
    attention, mlp = ([module for module in ranked(scores) if module.kind == kind] for kind in ("attention", "mlp"))
    drops = [attention[:few] + mlp[:many] for few in range(81) for many in range(81)]
    sums = [math.fsum(scores[module] for module in drop) for drop in drops if all(one.holds(drop) for one in limits)]
    chosen = cheapest(scores, limits)
    assert math.fsum(scores[module] for module in chosen) == pytest.approx(min(sums), abs=1e-9)


def test_of_equal_modules_the_deepest_go_first_and_attention_before_the_mlp():
    there = modules(8)
    same = dict.fromkeys(there, 100)
    chosen = cheapest(dict.fromkeys(reversed(there), 0.5), [limit(same, 500)])
    assert chosen == [Module("attention", 3), Module("mlp", 3), Module("attention", 2)]
    # Whatever the order in which they are given.
    draw = random.Random(1)
    for _ in range(5):
        shuffled = draw.sample(there, len(there))
        assert cheapest(dict.fromkeys(shuffled, 0.5), [limit(same, 500)]) == chosen


def test_one_unit_of_a_billion_decides():
    """HiGHS itself tolerates less than that."""
    first, second = modules(2)
    saved = {first: 10**9 - 1, second: 10**9}
    scores = {first: 0.1, second: 0.2}
    assert cheapest(scores, [limit(saved, 10**9)]) == [first]
    assert cheapest(scores, [limit(saved, 10**9 - 1)]) == [second]


def test_tiny_and_negative_scores_decide_as_others_do():
    there = modules(4)
    saved = dict.fromkeys(there, 100)
    scores = dict(zip(there, (3e-9, 2e-9, 1e-9, 1.0), strict=True))
    assert cheapest(scores, [limit(saved, 200)]) == [there[2], there[1]]
    # One that helps to drop, as a loss may say, is dropped in any case.
    scores[there[3]] = -1e-9
    assert cheapest(scores, [limit(saved, 200)]) == [there[3], there[2]]


def test_what_cannot_be_solved_is_said():
    first, second = modules(2)
    with pytest.raises(ValueError, match="cannot be reached"):
        cheapest({first: 1.0, second: 1.0}, [Limit("bytes", Quantity("1", "B"), Resource(9, 9, {first: 3, second: 3}))])
    with pytest.raises(ValueError, match="cannot be reached"):
        cheapest({first: 1.0, second: 1.0}, [Limit("bytes", Quantity("1", "B"), Resource(9, 9, {first: 0, second: 0}))])
    with pytest.raises(ValueError, match="not finite"):
        cheapest({first: math.nan, second: 1.0}, [limit({first: 1, second: 1}, 1)])


def test_swaps_keep_the_limits_and_come_in_the_order_of_their_sums():
    there = modules(6)
    saved = {module: 2 if module.kind == "mlp" else 1 for module in there}
    scores = {module: 0.1 * place for place, module in enumerate(there)}
    budget = Budget(scores, (limit(saved, 6),), rounds=1)
    dropped = budget.solve()
    # Three units have to go. The two first cost least, and leave no way back.
    assert dropped == (there[0], there[1])
    found = budget.swaps(dropped, 3)
    assert [(one.back, one.gone) for one in found] == [(there[0], there[2]), (there[1], there[3]), (there[0], there[3])]
    every = budget.swaps(dropped, 100)
    sums = [math.fsum(scores[module] for module in one.of(dropped)) for one in every]
    assert sums == sorted(sums)
    assert all(limit(saved, 6).holds(one.of(dropped)) for one in every)
    # An attention cannot take the place of an MLP.
    assert (there[1], there[2]) not in [(one.back, one.gone) for one in every]


def test_a_module_that_is_not_needed_comes_back_first():
    there = modules(4)
    saved = dict.fromkeys(there, 1)
    budget = Budget(dict.fromkeys(there, 0.5), (limit(saved, 3),), rounds=1)
    first = budget.swaps(there[:2], 2)
    assert [one.gone for one in first] == [None, None]
