"""From lines with limits to plan requests, and the rounds of swaps."""

import pytest
from pydantic import ValidationError

from drop_ray.config import PlanSpec
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.budgets.budget import Budget
from drop_ray.planning.budgets.limits import Limit
from drop_ray.planning.budgets.resources import Resource
from drop_ray.planning.modules import Module
from drop_ray.planning.requests import gaps_of, plan_requests
from drop_ray.text.quantities import Quantity

AT = {"prompt": 2048, "output": 512, "batch": 8}


def requests(*specs):
    lines = [PlanSpec(strategy="budget", **spec) for spec in specs]
    return plan_requests(lines, Layers(4), DropLists(), "cosine")


def test_names_say_what_is_left_at_most_and_no_two_lines_share_one():
    made = requests(
        {"limit": {"bytes": "24 GB"}},
        {"limit": {"kv_bytes_per_token": "0.5x"}, "of": "attention"},
        {"limit": {"speedup": "1.4x", "at": AT}},
        {"limit": {"speedup": "1.4x", "at": {**AT, "batch": 1}}},
        {"limit": {"sub_layers": 12, "bytes": "22.5 GiB"}, "of": "joint"},
        {"limit": {"bytes": "24 GB"}, "of": "block", "metric": "angular", "swap_rounds": 0},
        {"limit": {"bytes": "24 GB"}, "width": 4, "objective": "kl"},
        {"limit": {"bytes": "20 GB"}, "quantized": ["none", "awq"]},
    )
    assert [request.name for request in made] == [
        "budget-bytes-24GB",
        "budget-attention-kv-0.5x",
        "budget-speedup-1.4x-at-2048-512-8",
        "budget-speedup-1.4x-at-2048-512-1",
        "budget-bytes-22.5GiB-sublayers-12",
        "budget-block-bytes-24GB-swaps0-angular",
        "budget-bytes-24GB-width4",
        "budget-bytes-20GB",
        "budget-bytes-20GB-for-awq",
    ]
    assert [request.of for request in made[:3]] == ["joint", "attention", "joint"]
    assert all(request.searches and request.uses_scores and request.objective == "kl" for request in made)
    assert gaps_of(made) == (1,)
    assert made[3].line == "plans[3]"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "`limit`, e.g. limit: {bytes: 24 GB}, goes with strategy budget"),
        ({"limit": {"bytes": "1 GB"}, "drop": [2]}, "leave `drop` out"),
        ({"limit": {"bytes": "1 GB"}, "iterative": 2}, "`iterative` goes with"),
        ({"limit": {"bytes": "1 GB"}, "on": "refitted"}, "`on` goes with `iterative`, and with strategy greedy"),
        ({"limit": {"bytes": "1 GB"}, "width": "all"}, "`width: all` does not go with strategy budget"),
        ({"limit": {"bytes": "1 GB"}, "objective": "draft"}, "`objective: draft` goes with strategy greedy"),
        ({"strategy": "joint", "drop": [2], "swap_rounds": 1}, "`swap_rounds` goes with strategy budget"),
        ({"strategy": "joint", "limit": {"bytes": "1 GB"}}, "`limit`, .* goes with strategy budget"),
        ({"limit": {"bytes": "1 GB"}, "quantized": ["awq", "awq"]}, "`quantized` names awq twice"),
        ({"strategy": "joint", "drop": [2], "quantized": ["awq"]}, "`quantized` goes with strategy budget"),
        ({"limit": {}}, "give at least one of `bytes`, `kv_bytes_per_token`, `speedup`, `sub_layers`"),
        ({"limit": {"bytes": 24}}, r"limit.bytes\n.*'24' is not a number with its unit, .* like 24 GB, 22 GiB or 0.7x"),
        ({"limit": {"bytes": "24 Gb"}}, "'24 Gb' is not a number with its unit"),
        ({"limit": {"bytes": "1x"}}, "1x is no limit; give more than 0, and less than 1x"),
        ({"limit": {"sub_layers": "0"}}, r"limit.sub_layers\n.*0 is no limit"),
        ({"limit": {"sub_layers": 2.5}}, "'2.5' is not a number with its unit"),
        ({"limit": {"bytes": True}}, r"limit.bytes\n"),
        ({"limit": {"speedup": "1x", "at": AT}}, "1x is no speedup; give more than 1x"),
        ({"limit": {"speedup": "1.4x"}}, "`speedup` goes with `at`"),
        ({"limit": {"bytes": "1 GB", "at": AT}}, "`speedup` goes with `at`"),
        ({"limit": {"speedup": "1.4x", "at": {"prompt": 1, "output": 1}}}, r"limit.at.batch\n  Field required"),
        ({"limit": {"flops": 3}}, "Extra inputs are not permitted"),
    ],
)
def test_lines_that_say_no_limit_are_refused(spec, message):
    with pytest.raises(ValidationError, match=message):
        PlanSpec(**{"strategy": "budget", **spec})


def budget(rounds, needed=2):
    """Four attentions, of which two have to go; by their scores the first two."""
    scores = {Module("attention", layer): layer + 1.0 for layer in range(4)}
    saved = dict.fromkeys(scores, 1.0)
    return Budget(scores, (Limit("sub_layers", Quantity(str(4 - needed), ""), Resource(4, 4, saved)),), rounds)


def follow(one, value, width=None):
    """The layers that a request drops if `value` says how good each drop is, and what was measured in each round."""
    (request,) = requests({"limit": {"sub_layers": 2}, "of": "attention", "width": width})
    steps, rounds, found = request.search(Layers(4), DropLists(), one), [], None
    while True:
        try:
            asked = steps.send(found)
        except StopIteration as end:
            return tuple(module.layer for module in end.value), rounds
        assert asked.dropped == ()
        layers = {drop: tuple(module.layer for module in drop) for drop in asked.additions}
        rounds.append(list(layers.values()))
        found = {drop: value(layers[drop]) for drop in asked.additions}


def test_swaps_go_on_as_long_as_they_help_and_measure_nothing_twice():
    best = {(0, 1): 5.0, (0, 2): 4.0, (2, 3): 1.0}
    dropped, rounds = follow(budget(4), lambda layers: best.get(layers, 6.0))
    assert dropped == (2, 3)
    # The first solution with all its neighbours; then those of the better one that are new, and none of the best.
    assert rounds == [[(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)], [(2, 3)]]
    measured = [drop for drops in rounds for drop in drops]
    assert len(set(measured)) == len(measured)
    assert follow(budget(4), lambda layers: best.get(layers, 6.0), width=1) == ((0, 2), [[(0, 1), (0, 2)]])


def test_the_knapsacks_solution_stays_where_no_swap_is_better():
    dropped, rounds = follow(budget(4), lambda layers: 1.0)
    assert dropped == (0, 1)
    assert len(rounds) == 1


def test_no_rounds_measure_nothing_and_one_round_makes_one_swap():
    assert follow(budget(0), lambda layers: 1 / sum(layers)) == ((0, 1), [])
    dropped, rounds = follow(budget(1), lambda layers: -sum(layers))
    assert len(rounds) == 1
    assert dropped == (1, 3)


def test_any_values_come_to_an_end():
    dropped, rounds = follow(budget(10), lambda layers: -hash(layers) % 97)
    assert len(dropped) == 2
    assert len(rounds) <= 6
