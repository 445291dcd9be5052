"""What a search measures and drops: exact small cases with made-up values, ties, and what bounds the work."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.config import PlanSpec
from drop_ray.config.drafts import MOST_DRAFTED
from drop_ray.errors import UserError
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.modules import Module, candidates, drops_name, without
from drop_ray.planning.requests import plan_requests
from drop_ray.planning.search.drafts import best_speedup, speedup
from drop_ray.planning.search.objectives import OBJECTIVES, Measured
from drop_ray.planning.search.side_by_side import follow
from drop_ray.planning.strategies.greedy import GREEDY
from drop_ray.planning.strategies.search import Round, Search, Task

NOTHING = DropLists()


def layers_task(count, num_layers, width=None):
    return Task(count, tuple(candidates("attention", Layers(num_layers), NOTHING)), width)


def search(task, value, rule=GREEDY):
    """What the search drops, and its rounds. value: of a model, by the set of layers that it lacks."""
    rounds = []

    def measure(asked):
        rounds.append(asked["one"])
        return {"one": {more: value(layers((*asked["one"].dropped, *more))) for more in asked["one"].additions}}

    return follow({"one": rule.search(task)}, measure)["one"], rounds


def measured(rounds):
    """The layers that each round drops besides, one at a time."""
    return [[module.layer for more in each.additions for module in more] for each in rounds]


def layers(modules):
    return frozenset(module.layer for module in modules)


def in_order(modules):
    return [module.layer for module in modules]


# Alone, 0 and 1 are the cheapest; but without both the model is lost.
PAIR = {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}


def pair_value(lacking):
    return sum(PAIR[layer] for layer in lacking) + (100.0 if {0, 1} <= lacking else 0.0)


def test_each_round_drops_that_without_which_the_model_is_best():
    dropped, rounds = search(layers_task(3, 4), pair_value)
    assert in_order(dropped) == [0, 2, 3]
    assert [in_order(each.dropped) for each in rounds] == [[], [0], [0, 2]]
    assert [each.additions[0] for each in rounds] == [()] * 3
    assert measured(rounds) == [[3, 2, 1, 0], [1, 2, 3], [3, 1]]


def test_after_the_first_round_only_the_best_of_the_last_ranking_are_measured():
    values = {0: 5.0, 1: 4.0, 2: 3.0, 3: 2.0, 4: 1.0, 5: 0.0}
    # With 5 gone, 3 costs more than before: it falls behind 2, whose growth is that of the first round.
    worse = {3: 1.5}

    def value(lacking):
        return 7.0 + sum(values[layer] + (worse.get(layer, 0.0) if 5 in lacking else 0.0) for layer in lacking)

    dropped, rounds = search(layers_task(4, 6, width=2), value)
    assert measured(rounds) == [[5, 4, 3, 2, 1, 0], [4, 3], [2, 3], [3, 1]]
    assert in_order(dropped) == [5, 4, 2, 3]


def test_the_growth_is_that_of_the_model_so_far():
    """Not what is added to the value of the round before: with `on: refitted` the model is another one by then."""
    task, alone = layers_task(2, 4, width=1), {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
    rounds = GREEDY.search(task)
    first = next(rounds)
    found = {more: 10.0 + sum(alone[module.layer] for module in more) for more in first.additions}
    second = rounds.send(found)
    assert measured([second]) == [[1]]
    third = GREEDY.search(layers_task(3, 4, width=2))
    next(third)
    second = third.send(found)
    assert measured([second]) == [[1, 2]]
    # Refitted, the model stands at 4; 1 adds 5 to that, so that 3 comes before it.
    values = {(): 4.0, second.additions[1]: 9.0, second.additions[2]: 5.0}
    assert measured([third.send(values)]) == [[3, 1]]


def test_of_equal_values_the_deeper_layer_goes_first_and_attention_before_the_mlp():
    task = Task(4, tuple(candidates("joint", Layers(2), NOTHING)))
    dropped, _ = search(task, lambda lacking: 0.5)
    assert [(module.kind, module.layer) for module in dropped] == [
        ("attention", 1),
        ("mlp", 1),
        ("attention", 0),
        ("mlp", 0),
    ]


def test_a_width_of_one_follows_the_first_ranking():
    dropped, rounds = search(layers_task(3, 4, width=1), pair_value)
    assert in_order(dropped) == [0, 1, 2]
    assert measured(rounds) == [[3, 2, 1, 0], [1], [2]]


@given(st.integers(1, 7), st.one_of(st.none(), st.integers(1, 9)), st.randoms(use_true_random=False))
def test_a_larger_drop_begins_with_every_smaller_one_and_a_round_measures_no_more_than_its_width(count, width, draw):
    values = {lacking: draw.random() for size in range(8) for lacking in map(frozenset, _subsets(7, size))}
    task = layers_task(count, 7, width)
    dropped, rounds = search(task, values.__getitem__)
    assert [len(each) for each in measured(rounds)] == [7, *(min(width or 7, 7 - round) for round in range(1, count))]
    assert len(set(dropped)) == count
    assert search(layers_task(7, 7, width), values.__getitem__)[0][:count] == dropped
    if width is None or width > 6:
        for number, module in enumerate(dropped):
            before = layers(dropped[:number])
            best = min(values[before | {layer}] for layer in range(7) if layer not in before)
            assert values[before | {module.layer}] == best


def _subsets(num_layers, size):
    return itertools.combinations(range(num_layers), size)


def test_values_that_add_up_are_dropped_in_their_order_at_any_width():
    values = [0.3, 0.1, 0.4, 0.15, 0.9, 0.2]
    for width in (None, 1, 2, 4):
        dropped, _ = search(layers_task(5, 6, width), lambda lacking: math.fsum(values[layer] for layer in lacking))
        assert in_order(dropped) == [1, 3, 5, 0, 2]


class BestPair(Search):
    """A search that measures every pair at once, as a package may add one."""

    def search(self, task):
        pairs = tuple(itertools.combinations(task.candidates, 2))
        found = yield Round((), pairs)
        return min(pairs, key=found.__getitem__)


def test_a_search_of_another_kind_measures_any_models():
    dropped, rounds = search(layers_task(2, 4), pair_value, BestPair(of="attention"))
    assert in_order(dropped) == [0, 2]
    assert len(rounds[0].additions) == 6


def test_searches_that_go_on_are_measured_side_by_side():
    seen = []

    def measure(asked):
        seen.append(sorted(asked))
        return {key: dict.fromkeys(each.additions, 0.0) for key, each in asked.items()}

    searches = {count: GREEDY.search(layers_task(count, 4)) for count in (1, 3)}
    found = follow(searches, measure)
    assert seen == [[1, 3], [3], [3]]
    assert {count: in_order(modules) for count, modules in found.items()} == {1: [3], 3: [3, 2, 1]}


def test_the_speedup_by_a_draft_is_that_of_the_formula():
    for acceptance, cost, tokens in ((0.5, 0.1, 3), (0.9, 0.6, 1), (0.0, 0.5, 4)):
        expected = (1 - acceptance ** (tokens + 1)) / ((1 - acceptance) * (1 + tokens * cost))
        assert speedup(acceptance, cost, tokens) == pytest.approx(expected, rel=1e-14)
    # Every token is kept: k + 1 tokens for k steps of the draft and one of the model.
    assert speedup(1.0, 0.5, 3) == 4 / 2.5
    assert best_speedup(1.0, 0.5) == (MOST_DRAFTED, 17 / 9)
    # A draft that is never right costs its steps: the fewest of them is best.
    assert best_speedup(0.0, 0.5) == (1, 1 / 1.5)


def test_the_best_number_of_draft_tokens_is_the_best_of_all():
    for acceptance, cost in itertools.product((0.2, 0.6, 0.9, 0.99), (0.05, 0.4, 0.9)):
        tokens, best = best_speedup(acceptance, cost)
        assert best == speedup(acceptance, cost, tokens) == max(speedup(acceptance, cost, k) for k in range(1, 17))


def test_as_a_draft_a_worse_model_may_be_better_where_it_is_much_smaller():
    near, small = Measured(0.1, 0.9, 0.9), Measured(0.2, 0.85, 0.6)
    assert OBJECTIVES["kl"](near) < OBJECTIVES["kl"](small)
    assert OBJECTIVES["draft"](small) < OBJECTIVES["draft"](near)


def requests(*specs, num_layers=8, dropped=NOTHING):
    return plan_requests([PlanSpec(**spec) for spec in specs], Layers(num_layers), dropped, "cosine")


def test_what_sets_searches_apart_is_in_the_names_of_their_plans():
    made = requests(
        {"strategy": "greedy", "of": "joint", "drop": [4, 8], "width": 4},
        {"strategy": "greedy", "of": "joint", "drop": 4, "objective": "kl"},
        {"strategy": "greedy", "of": "joint", "drop": 4, "width": "all"},
        {"strategy": "greedy", "of": "block", "drop": 2, "objective": "draft", "on": "refitted"},
        {"strategy": "joint", "drop": 4, "iterative": 1, "on": "mixed"},
    )
    assert [(request.name, request.label) for request in made] == [
        ("greedy-joint-4-width4", "greedy-joint-width4"),
        ("greedy-joint-8-width4", "greedy-joint-width4"),
        ("greedy-joint-4", "greedy-joint"),
        ("greedy-block-2-draft-on-refitted", "greedy-block-draft-on-refitted"),
        ("joint-4-iterative1-on-mixed", "joint-iterative1-on-mixed"),
    ]
    assert [request.objective for request in made] == ["kl", "kl", "kl", "draft", None]
    assert [request.width for request in made] == [4, 4, None, None, None]


def test_more_than_there_is_to_drop_is_refused():
    with pytest.raises(UserError, match=r"plans\[0\].drop: 17 is more than the model's 16 attention layers and MLPs"):
        requests({"strategy": "greedy", "of": "joint", "drop": 17})
    with pytest.raises(UserError, match=r"plans\[0\].drop: 7 is more than the model's 6 attention layers"):
        requests({"strategy": "greedy", "of": "attention", "drop": 7}, dropped=DropLists((1, 2)))


def test_a_search_starts_from_what_the_model_has():
    (request,) = requests({"strategy": "greedy", "of": "block", "drop": 2}, num_layers=3, dropped=DropLists((0,), (0,)))
    first = next(request.search(Layers(3), DropLists((0,), (0,))))
    assert first.additions == ((), (Module("block", 2),), (Module("block", 1),))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"strategy": "greedy", "drop": 2}, "`of` .* goes with strategies greedy, budget, random and reverse"),
        ({"strategy": "greedy", "of": "joint", "drop": 2, "width": 0}, "greater than or equal to 1"),
        ({"strategy": "greedy", "of": "joint", "drop": 2, "width": "most"}, "width"),
        ({"strategy": "greedy", "of": "joint", "drop": 2, "iterative": 1}, "`iterative` goes with"),
        ({"strategy": "greedy", "of": "joint", "drop": 2, "metric": "cosine"}, "`metric` goes with"),
        ({"strategy": "greedy", "of": "joint", "drop": 2, "objective": "speed"}, "'kl' or 'draft'"),
        ({"strategy": "joint", "drop": 2, "width": 4}, "`width` goes with strategies greedy and budget"),
        ({"strategy": "joint", "drop": 2, "objective": "kl"}, "`objective: kl` goes with strategies greedy and budget"),
        ({"strategy": "joint", "drop": 2, "on": "refitted"}, "`on` goes with `iterative`, and with strategy greedy"),
        ({"file": "mine.json", "on": "refitted"}, "`on` goes with `iterative`"),
        ({"file": "mine.json", "width": 2}, "`width` goes with strategies greedy and budget"),
    ],
)
def test_keys_that_do_not_go_with_a_strategy_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        PlanSpec(**spec)


def test_drop_lists_with_more_modules_and_their_name():
    drops = without(DropLists((1,), (2,)), [Module("block", 2), Module("attention", 0)])
    assert drops == DropLists((0, 1, 2), (2,))
    assert drops_name(drops) == "attn.0.1.2-mlp.2"
    assert drops_name(DropLists((), (3, 1))) == "mlp.1.3"
    assert drops_name(NOTHING) == "base"
