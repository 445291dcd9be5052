"""Which modules are chosen: exact small cases, ties, and the orders that the paper's definitions give."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.models.families import DropLists
from drop_ray.planning.requests import PlanRequest
from drop_ray.planning.scores import Importance, ScoreTable, aggregate
from drop_ray.planning.strategies import (
    Module,
    candidates,
    consecutive_blocks,
    layers_of,
    next_drops,
    random_order,
    reverse_order,
)
from drop_ray.scoring.rows import ScoreRow

NOTHING = DropLists()


def table(attention=(), mlp=(), block=(), windows=None):
    """windows: {gap: [score of the window that starts at layer 0, 1, ...]}."""
    values = {("attention", layer, 1): score for layer, score in enumerate(attention)}
    values |= {("mlp", layer, 1): score for layer, score in enumerate(mlp)}
    values |= {("block", layer, 1): score for layer, score in enumerate(block)}
    for gap, scores in (windows or {}).items():
        values |= {("block", layer, gap): score for layer, score in enumerate(scores)}
    return ScoreTable({key: Importance(score, 0.0) for key, score in values.items()})


def layers(modules):
    return [(module.kind[0], module.layer) for module in modules]


def test_layer_drop_takes_the_lowest_scores_most_redundant_first():
    scores = table(attention=[0.4, 0.1, 0.3, 0.2])
    assert layers(next_drops(scores, "attention", 4, NOTHING, 3)) == [("a", 1), ("a", 3), ("a", 2)]


def test_of_equal_scores_the_deeper_layer_goes_first_and_attention_before_the_mlp():
    same = [0.5, 0.5, 0.5]
    assert layers(next_drops(table(mlp=same), "mlp", 3, NOTHING, 3)) == [("m", 2), ("m", 1), ("m", 0)]
    joint = next_drops(table(attention=same, mlp=same), "joint", 3, NOTHING, 4)
    assert layers(joint) == [("a", 2), ("m", 2), ("a", 1), ("m", 1)]
    windows = table(windows={2: [0.3, 0.1, 0.1, 0.2]})
    assert layers(consecutive_blocks(windows, 2)) == [("b", 2), ("b", 3)]


def test_joint_ranks_attention_and_mlp_in_one_list():
    scores = table(attention=[0.1, 0.4], mlp=[0.3, 0.2])
    assert layers(next_drops(scores, "joint", 2, NOTHING, 3)) == [("a", 0), ("m", 1), ("m", 0)]


def test_consecutive_looks_at_windows_of_exactly_its_own_size():
    # The reference read the column of gap n + 1. Here every gap has its minimum elsewhere.
    scores = table(block=[0.9, 0.1, 0.9, 0.9], windows={2: [0.5, 0.5, 0.1], 3: [0.1, 0.5], 4: [0.7]})
    chosen = {gap: [module.layer for module in consecutive_blocks(scores, gap)] for gap in (1, 2, 3, 4)}
    assert chosen == {1: [1], 2: [2, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}


def test_what_is_dropped_is_not_chosen_again():
    scores = ScoreTable({("attention", layer, 1): Importance(0.1 * layer, 0.0) for layer in (1, 3)})
    assert layers(next_drops(scores, "attention", 4, DropLists((0, 2)), 2)) == [("a", 1), ("a", 3)]
    assert [module.layer for module in candidates("block", 3, DropLists((0, 1), (1,)))] == [0, 2]


def test_a_chosen_block_loses_both_halves_but_none_twice():
    chosen = [Module("block", 2), Module("attention", 0)]
    assert layers_of("attention", chosen, (2,)) == (0,)
    assert layers_of("mlp", chosen, ()) == (2,)


def test_reverse_goes_from_the_deepest_layer_up():
    assert layers(reverse_order("joint", 2, NOTHING)) == [("m", 1), ("a", 1), ("m", 0), ("a", 0)]


@given(st.integers(1, 40), st.integers(0, 5), st.sampled_from(["attention", "mlp", "joint", "block"]))
def test_random_orders_are_permutations_that_depend_on_the_seed_only(num_layers, seed, of):
    order = random_order(of, num_layers, NOTHING, seed)
    assert order == random_order(of, num_layers, NOTHING, seed)
    assert sorted(order, key=repr) == sorted(candidates(of, num_layers, NOTHING), key=repr)


def test_random_orders_differ_between_seeds():
    assert len({tuple(random_order("attention", 20, NOTHING, seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("count", "iterative", "rounds"), [(8, None, [8]), (8, 2, [2, 2, 2, 2]), (5, 2, [2, 2, 1]), (1, 4, [1])]
)
def test_iterative_drops_so_many_at_a_time_and_the_rest_last(count, iterative, rounds):
    assert PlanRequest("p", "attention", "attention", count, "cosine", iterative).rounds() == rounds


def row(sample, total, tokens, metric="cosine"):
    return ScoreRow(sample, 0, 1, "attention", metric, total, tokens)


def test_the_mean_weighs_tokens_and_the_error_is_that_of_the_samples():
    found = aggregate([row(0, 1.0, 10), row(1, 3.0, 10), row(2, 2.0, 10)])["cosine"].importance["attention", 0, 1]
    assert found.mean == pytest.approx(6 / 30)
    assert found.stderr == pytest.approx(0.1 / math.sqrt(3))


def test_each_metric_has_a_table_of_its_own_rows():
    rows = [row(0, 1.0, 10), row(0, 5.0, 10, "angular"), row(1, 1.0, 10), row(1, 7.0, 10, "angular")]
    means = {metric: table.mean("attention", 0) for metric, table in aggregate(rows).items()}
    assert means == {"cosine": pytest.approx(0.1), "angular": pytest.approx(0.6)}


@given(st.permutations([row(i, 0.1 * i + 1e-9 * i**3, 7) for i in range(12)]))
def test_the_order_in_which_workers_deliver_does_not_show(rows):
    ordered = aggregate([row(i, 0.1 * i + 1e-9 * i**3, 7) for i in range(12)])
    assert aggregate(rows) == ordered
