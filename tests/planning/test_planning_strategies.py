"""Which modules are chosen: exact small cases, ties, and the orders that the paper's definitions give."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.extensions import STRATEGIES
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.modules import Module, candidates, layers_of
from drop_ray.planning.requests import PlanRequest
from drop_ray.planning.scores import Importance, ScoreTable
from drop_ray.planning.strategies.strategy import Choice, Strategy

NOTHING = DropLists()


def table(attention=(), mlp=(), block=(), windows=None):
    """windows: {gap: [score of the window that starts at layer 0, 1, ...]}."""
    values = {("attention", layer, 1): score for layer, score in enumerate(attention)}
    values |= {("mlp", layer, 1): score for layer, score in enumerate(mlp)}
    values |= {("block", layer, 1): score for layer, score in enumerate(block)}
    for gap, scores in (windows or {}).items():
        values |= {("block", layer, gap): score for layer, score in enumerate(scores)}
    return ScoreTable({key: Importance(score, 0.0) for key, score in values.items()})


NO_SCORES = table()


def choose(strategy, count, num_layers, scores=NO_SCORES, dropped=NOTHING, of=None, seed=0):
    """What a strategy of that name drops next."""
    rule = STRATEGIES.load(strategy)
    return rule.choose(Choice(count, rule.candidates(rule.of or of, Layers(num_layers), dropped), scores, seed))


def layers(modules):
    return [(module.kind[0], module.layer) for module in modules]


def test_layer_drop_takes_the_lowest_scores_most_redundant_first():
    scores = table(attention=[0.4, 0.1, 0.3, 0.2])
    assert layers(choose("attention", 3, 4, scores)) == [("a", 1), ("a", 3), ("a", 2)]


def test_of_equal_scores_the_deeper_layer_goes_first_and_attention_before_the_mlp():
    same = [0.5, 0.5, 0.5]
    assert layers(choose("mlp", 3, 3, table(mlp=same))) == [("m", 2), ("m", 1), ("m", 0)]
    joint = choose("joint", 4, 3, table(attention=same, mlp=same))
    assert layers(joint) == [("a", 2), ("m", 2), ("a", 1), ("m", 1)]
    windows = table(windows={2: [0.3, 0.1, 0.1, 0.2]})
    assert layers(choose("block_consecutive", 2, 5, windows)) == [("b", 2), ("b", 3)]


def test_joint_ranks_attention_and_mlp_in_one_list():
    scores = table(attention=[0.1, 0.4], mlp=[0.3, 0.2])
    assert layers(choose("joint", 3, 2, scores)) == [("a", 0), ("m", 1), ("m", 0)]


def test_consecutive_looks_at_windows_of_exactly_its_own_size():
    # The reference read the column of gap n + 1. Here every gap has its minimum elsewhere.
    scores = table(block=[0.9, 0.1, 0.9, 0.9], windows={2: [0.5, 0.5, 0.1], 3: [0.1, 0.5], 4: [0.7]})
    chosen = {gap: [module.layer for module in choose("block_consecutive", gap, 4, scores)] for gap in (1, 2, 3, 4)}
    assert chosen == {1: [1], 2: [2, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}


def test_what_is_dropped_is_not_chosen_again():
    scores = ScoreTable({("attention", layer, 1): Importance(0.1 * layer, 0.0) for layer in (1, 3)})
    assert layers(choose("attention", 2, 4, scores, DropLists((0, 2)))) == [("a", 1), ("a", 3)]
    assert [module.layer for module in candidates("block", Layers(3), DropLists((0, 1), (1,)))] == [0, 2]


def test_a_chosen_block_loses_both_halves_but_none_twice():
    chosen = [Module("block", 2), Module("attention", 0)]
    assert layers_of("attention", chosen, (2,)) == (0,)
    assert layers_of("mlp", chosen, ()) == (2,)


def test_reverse_goes_from_the_deepest_layer_up():
    assert layers(choose("reverse", 4, 2, of="joint")) == [("m", 1), ("a", 1), ("m", 0), ("a", 0)]


@given(st.integers(1, 40), st.integers(0, 5), st.sampled_from(["attention", "mlp", "joint", "block"]))
def test_random_orders_are_permutations_that_depend_on_the_seed_only(num_layers, seed, of):
    everything = candidates(of, Layers(num_layers), NOTHING)
    order = choose("random", len(everything), num_layers, of=of, seed=seed)
    assert order == choose("random", len(everything), num_layers, of=of, seed=seed)
    assert sorted(order, key=repr) == sorted(everything, key=repr)
    assert choose("random", 1, num_layers, of=of, seed=seed) == order[:1]


def test_random_orders_differ_between_seeds():
    assert len({tuple(choose("random", 20, 20, of="attention", seed=seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("count", "iterative", "rounds"), [(8, None, [8]), (8, 2, [2, 2, 2, 2]), (5, 2, [2, 2, 1]), (1, 4, [1])]
)
def test_iterative_drops_so_many_at_a_time_and_the_rest_last(count, iterative, rounds):
    assert PlanRequest("p", "attention", "attention", count, "cosine", iterative).rounds() == rounds


@dataclass(frozen=True, kw_only=True)
class Chosen(Strategy):
    """Chooses these modules whatever it is asked for."""

    modules: tuple[Module, ...] = ()

    def choose(self, choice):
        return self.modules


@pytest.mark.parametrize(
    "modules",
    [
        (Module("attention", 0),),
        (Module("attention", 0), Module("attention", 0)),
        (Module("attention", 0), Module("mlp", 1)),
        (Module("attention", 0), Module("attention", 2)),
        (Module("attention", 0), Module("attention", 1), Module("attention", 1)),
    ],
    ids=["too few", "one twice", "of another kind", "beyond the model", "too many"],
)
def test_a_strategy_that_does_not_choose_what_it_was_asked_for_is_named(monkeypatch, modules):
    monkeypatch.setattr("drop_ray.planning.strategies.ranked.ATTENTION", Chosen(of="attention", modules=modules))
    request = PlanRequest("p", "attention", "attention", 2, "cosine")
    with pytest.raises(ValueError, match="strategy attention was to choose 2 attention layers, and chose"):
        request.choose({"cosine": NO_SCORES}, Layers(2), NOTHING, 2)


def test_a_strategy_drops_what_there_is():
    with pytest.raises(ValueError, match="a strategy drops attention, mlp, joint, block or None, not heads"):
        Chosen(of="heads")
