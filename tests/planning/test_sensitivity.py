"""What strategies drop by each of several calibration texts, by all of them, and how far the texts agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.config import PlanSpec
from drop_ray.models.families import DropLists
from drop_ray.models.layers import Layers
from drop_ray.planning.requests import plan_requests
from drop_ray.planning.scores import Importance, ScoreTable
from drop_ray.planning.sensitivity import TextScores, agreement, consensus_tables, one_shot, plan_by, shared

NONE = DropLists()


def text(attention, mlp=None, windows=(), votes=True, name="a"):
    """A text by which the attention of layer i has the i-th importance."""
    values = {("attention", layer, 1): value for layer, value in enumerate(attention)}
    values |= {("mlp", layer, 1): value for layer, value in enumerate(mlp or [9.0] * len(attention))}
    values |= {("block", layer, 1): value for layer, value in enumerate(attention)}
    values |= {("block", layer, 2): value for layer, value in enumerate(windows)}
    table = ScoreTable({key: Importance(float(value), 0.1) for key, value in values.items()})
    return TextScores(name, "hash", 8, {"cosine": table}, votes)


def request(num_layers=4, **spec):
    (found,) = plan_requests([PlanSpec(**spec)], Layers(num_layers), NONE, "cosine")
    return found


def consensus(request, *texts, num_layers=4, dropped=NONE):
    tables = consensus_tables(request, texts, Layers(num_layers), dropped)
    return plan_by(request, tables, Layers(num_layers), dropped, "consensus")


def test_only_what_ranks_once_by_scores_is_asked():
    specs = [
        {"strategy": "attention", "drop": [2]},
        {"strategy": "attention", "drop": [2], "iterative": 1},
        {"strategy": "random", "of": "mlp", "drop": [2]},
        {"strategy": "reverse", "of": "mlp", "drop": [2]},
        {"strategy": "block_consecutive", "drop": [2]},
        {"strategy": "mlp", "drop": [2], "metric": "kl"},
        {"strategy": "greedy", "of": "mlp", "drop": [2]},
        {"strategy": "mlp", "drop": [1], "metric": "angular"},
    ]
    asked = plan_requests([PlanSpec(**spec) for spec in specs], Layers(4), NONE, "cosine")
    assert [found.name for found in one_shot(asked, ["cosine"])] == ["attention-2", "block_consecutive-2"]
    assert [found.name for found in one_shot(asked, ["angular"])] == ["mlp-1-angular"]


def test_the_consensus_is_the_mean_rank_and_not_the_mean_importance():
    # By the sum of importance layer 3 would be last: one text has large numbers.
    first, second, third = text([1, 2, 3, 4]), text([4, 3, 1, 2]), text([0.2, 0.3, 0.4, 0.1])
    two = request(strategy="attention", drop=[2])
    tables = consensus_tables(two, [first, second, third], Layers(4), NONE)
    assert {layer: tables["cosine"].mean("attention", layer) * 3 for layer in range(4)} == pytest.approx(
        {0: 7, 1: 8, 2: 8, 3: 7}
    )
    # Of equal mean ranks the deeper layer first, in both pairs.
    assert consensus(two, first, second, third).drop_attn == (3, 0)
    assert consensus(request(strategy="attention", drop=[3]), first, second, third).drop_attn == (3, 0, 2)


def test_a_text_without_a_vote_changes_nothing():
    voting, other = text([1, 2, 3, 4]), text([4, 3, 2, 1], votes=False)
    assert consensus(request(strategy="attention", drop=[2]), voting, other).drop_attn == (0, 1)


def test_joint_plans_rank_attention_and_mlps_in_one_list():
    one, other = text([1, 2], mlp=[3, 4]), text([5, 6], mlp=[7, 8])
    three = request(2, strategy="joint", drop=[3])
    plan = consensus(three, one, other, num_layers=2)
    assert (plan.drop_attn, plan.drop_mlp) == ((0, 1), (0,))
    # Ranks of attention alone would tie layer by layer with those of MLPs.
    assert consensus_tables(three, [one, other], Layers(2), NONE)["cosine"].mean("mlp", 0) == 3


def test_windows_are_ranked_among_windows():
    one, other = text([9, 9, 9, 9], windows=[3, 1, 2]), text([9, 9, 9, 9], windows=[3, 2, 1])
    plan = consensus(request(strategy="block_consecutive", drop=[2]), one, other)
    assert sorted(plan.drop_attn) == [2, 3]  # the windows at 1 and 2 tie: the deeper one
    found = agreement(request(strategy="block_consecutive", drop=[2]), one, other, Layers(4), NONE)
    assert found.tau == pytest.approx(1 / 3)
    assert found.overlap == 0.5  # blocks 1 and 2 against 2 and 3


def test_what_the_model_lacks_already_is_neither_chosen_nor_shared():
    dropped = DropLists((0,), ())
    scores = {key: value for key, value in text([0, 1, 2, 3]).tables["cosine"].importance.items() if key[1]}
    one = TextScores("a", "hash", 8, {"cosine": ScoreTable(scores)}, True)
    (two,) = plan_requests([PlanSpec(strategy="attention", drop=[2])], Layers(4), dropped, "cosine")
    assert consensus(two, one, dropped=dropped).drop_attn == (0, 1, 2)
    assert shared(DropLists((0, 1), ()), DropLists((0, 2), ()), dropped) == 0


def test_texts_agree_with_themselves_and_not_with_their_reverse():
    two = request(strategy="attention", drop=[2])
    up, down = text([1, 2, 3, 4]), text([4, 3, 2, 1], name="b")
    assert (agreement(two, up, up, Layers(4), NONE).tau, agreement(two, up, up, Layers(4), NONE).overlap) == (1, 1)
    found = agreement(two, up, down, Layers(4), NONE)
    assert (found.plan, found.one.text, found.other.text) == ("attention-2", "a", "b")
    assert (found.tau, found.overlap) == (-1, 0)
    assert agreement(request(1, strategy="attention", drop=[1]), text([1]), text([2]), Layers(1), NONE).tau is None


@given(st.lists(st.permutations(range(5)), min_size=1, max_size=4))
def test_texts_that_agree_are_their_consensus_and_their_order_means_nothing(orders):
    texts = [text(order) for order in orders]
    two = request(5, strategy="attention", drop=[2])
    made = consensus(two, *texts, num_layers=5)
    assert consensus(two, *reversed(texts), num_layers=5) == made
    alone = plan_by(two, texts[0].tables, Layers(5), NONE, "consensus")
    assert consensus(two, *[texts[0]] * 3, num_layers=5) == alone
