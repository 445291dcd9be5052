"""Which variants are compared together: against all ways to cut, by exact costs, and within a memory for states."""

import random
from itertools import combinations, pairwise

import pytest

from drop_ray.evaluation.divergence.dealing import PassCosts, deal
from drop_ray.models.families import DropLists

BASE = DropLists()
COSTS = PassCosts(attention=(2, 2, 2, 2), mlp=(3, 3, 3, 3), output=1)
LEAVE_ONE_OUT = [DropLists((layer,)) for layer in range(4)] + [DropLists((), (layer,)) for layer in range(4)]


def test_a_variant_costs_what_comes_behind_its_first_difference():
    assert COSTS.work([], BASE) == 4 * 5 + 1
    assert COSTS.work([DropLists((), (3,))], BASE) == 21 + 1
    assert COSTS.work([DropLists((3,))], BASE) == 21 + 3 + 1
    assert COSTS.work([DropLists((0,))], BASE) == 21 + 18 + 1
    # Two that lack the same in front: what only they share is computed once.
    assert COSTS.work([DropLists((0,)), DropLists((0,), (3,))], BASE) == 21 + 19 + 1
    # What the base lacks costs nothing.
    assert COSTS.work([DropLists((0, 3))], DropLists((0,))) == 18 + 1 + 3 + 1


def test_leave_one_out_costs_half_a_pass_each():
    """2 n sub-layers of one cost c: the base, n (n - 1) / 2 passes of twice that, and an MLP for each attention."""
    layers = 40
    costs = PassCosts((1,) * layers, (1,) * layers, 0)
    drops = [DropLists((layer,)) for layer in range(layers)] + [DropLists((), (layer,)) for layer in range(layers)]
    forwards = costs.work(drops, BASE) / costs.work([], BASE)
    assert forwards == layers + 0.5
    assert forwards <= 0.55 * len(drops)


def test_every_variant_is_dealt_once_in_order_and_no_group_is_too_large():
    for workers, most in ((1, 8), (3, 8), (2, 3), (4, 1), (20, 5)):
        groups = deal(LEAVE_ONE_OUT, BASE, COSTS, workers, most)
        assert sorted(place for group in groups for place in group) == list(range(8))
        assert all(group == sorted(group) and 0 < len(group) <= most for group in groups)
        work = [COSTS.work([LEAVE_ONE_OUT[place] for place in group], BASE) for group in groups]
        assert work == sorted(work, reverse=True)
    assert deal([], BASE, COSTS, 3, 5) == []


def test_one_worker_with_room_gets_one_group():
    assert deal(LEAVE_ONE_OUT, BASE, COSTS, 1, 8) == [list(range(8))]


def test_a_group_is_of_neighbours():
    groups = deal(LEAVE_ONE_OUT, BASE, COSTS, 2, 4)
    layers = [sorted({place % 4 for place in group}) for group in groups]
    assert layers == [[0, 1], [2, 3]]


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_work_is_the_least_of_all_cuts(seed):
    draw = random.Random(seed)
    base = DropLists((draw.randrange(4),))
    found = {
        DropLists(tuple(draw.sample(range(4), draw.randrange(3))), tuple(draw.sample(range(4), draw.randrange(3))))
        for _ in range(7)
    }
    variants = [drops.union(base) for drops in found]
    order = sorted(range(len(variants)), key=lambda place: COSTS.path(variants[place]), reverse=True)

    def work(group):
        return COSTS.work([variants[place] for place in group], base)

    cuts = [(0, *cut, len(order)) for cut in combinations(range(1, len(order)), 2)]
    least = min(max(work(order[a:b]) for a, b in pairwise(cut)) for cut in cuts)
    assert max(map(work, deal(variants, base, COSTS, 3, 99))) == pytest.approx(least, rel=1e-5)
