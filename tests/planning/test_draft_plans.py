"""The planner of drafts against sums by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_size import KV_BYTES, model_size

from drop_ray.config.drafts import MOST_DRAFTED
from drop_ray.config.hardware import HardwareSpec
from drop_ray.models.families import DropLists
from drop_ray.planning.draft_costs import DraftCost, Requests, draft_cost
from drop_ray.planning.draft_plans import Candidate, plan_draft, ranked
from drop_ray.planning.search.drafts import speedup

VOCABULARY = 50
BASE, NO_ATTENTION = DropLists(), DropLists(attn=(0, 1, 2, 3))
# Bytes of a step of `plain_size.model_size` at a context of 10: 200 numbers of the output layer and four times 40 + 80
# in the layers, four bytes each; the KV cache of a token is four times 8 bytes.
HEAD, ATTENTION, MLPS, KV = 200 * 4, 160 * 4, 320 * 4, 10 * 4 * KV_BYTES


def candidate(acceptance, cost, name="draft"):
    return Candidate(name, acceptance, DraftCost(cost))


# Acceptance, cost; best number of tokens, and the speedup there, each summed by hand.
BY_HAND = [
    (0.0, 0.5, 1, 1 / 1.5),
    (0.5, 0.5, 1, 1.5 / 1.5),
    (0.5, 0.1, 2, 1.75 / 1.2),
    (0.8, 0.25, 3, 2.952 / 1.75),
    (0.9, 0.27, 5, 4.68559 / 2.35),
    (0.9, 0.91, 1, 1.9 / 1.91),
    (0.6, 0.3, 1, 1.6 / 1.3),
    (1.0, 0.5, 16, 17 / 9),
    (1.0, 1.0, 1, 1.0),
    (0.95, 0.5, 5, 5.2981621875 / 3.5),
]


@pytest.mark.parametrize(("acceptance", "cost", "tokens", "expected"), BY_HAND)
def test_the_best_number_of_tokens_and_its_speedup_are_as_by_hand(acceptance, cost, tokens, expected):
    plan = plan_draft(candidate(acceptance, cost))
    assert plan.tokens == tokens
    assert plan.speedup == pytest.approx(expected, rel=1e-12)
    assert plan.pays == (expected > 1)


@given(st.floats(0, 1), st.floats(0.01, 2))
def test_a_draft_pays_exactly_where_more_is_kept_than_a_step_costs(acceptance, cost):
    plan = plan_draft(candidate(acceptance, cost))
    if abs(acceptance - cost) > 1e-6:
        assert plan.pays == (acceptance > cost)
    assert all(plan.speedup >= speedup(acceptance, cost, tokens) for tokens in range(1, MOST_DRAFTED + 1))


def test_it_is_said_why_a_draft_cannot_pay():
    assert (
        "cannot pay: a step of it takes 0.91 of the base's, and no more than 0.90"
        in plan_draft(candidate(0.9, 0.91)).reason
    )
    growing = DraftCost(0.2, tuple(1 + 0.9 * tokens for tokens in range(1, MOST_DRAFTED + 1)))
    bound = plan_draft(Candidate("draft", 0.9, growing))
    assert bound.speedup == pytest.approx(1.9 / 2.1)
    assert "step on 2 tokens takes 1.90 times its step on one, as operations are what it waits for" in bound.reason
    assert "1.99 times as fast at k = 5" in plan_draft(candidate(0.9, 0.27)).reason


def test_drafts_are_ranked_by_their_speedup_and_equal_ones_in_their_order():
    drafts = [candidate(0.5, 0.5, name="a"), candidate(0.9, 0.27, name="b"), candidate(0.5, 0.5, name="c")]
    assert [plan.name for plan in ranked(drafts)] == ["b", "a", "c"]


@pytest.mark.parametrize(("acceptance", "cost"), [(1.1, 0.5), (-0.1, 0.5), (float("nan"), 0.5), (0.5, 0.0)])
def test_what_is_no_acceptance_or_no_cost_is_refused(acceptance, cost):
    with pytest.raises(ValueError, match="draft: "):
        plan_draft(candidate(acceptance, cost))


def test_without_hardware_a_step_costs_its_bytes_and_verification_nothing():
    found = draft_cost(model_size(), VOCABULARY, BASE, NO_ATTENTION, Requests(batch=2, context=10))
    assert found.step == pytest.approx((HEAD + MLPS) / (HEAD + ATTENTION + MLPS + 2 * KV))
    assert found.verification == (1.0,) * MOST_DRAFTED


def test_quantized_layers_cost_their_bytes_and_the_output_layer_its_own():
    found = draft_cost(model_size(), VOCABULARY, BASE, BASE, Requests(1, 10), layer_bytes=1.0)
    assert found.step == pytest.approx((HEAD + (ATTENTION + MLPS) / 4 + KV) / (HEAD + ATTENTION + MLPS + KV))


def test_where_operations_bind_verification_costs_as_many_times_as_there_are_tokens():
    slow = HardwareSpec(flops=1.0, bandwidth=1e12, memory=1, compute_efficiency=1, bandwidth_efficiency=1)
    found = draft_cost(model_size(), VOCABULARY, BASE, BASE, Requests(8, 10), hardware=slow)
    assert found.verification[:3] == pytest.approx((2, 3, 4))
    assert not plan_draft(Candidate("itself", 1.0, found)).pays


def test_dropped_attention_costs_less_the_longer_the_context():
    costs = [
        draft_cost(model_size(), VOCABULARY, BASE, DropLists(attn=(1, 2)), Requests(1, n)).step for n in (1, 10**6)
    ]
    assert costs[0] > costs[1] == pytest.approx(0.5, rel=1e-2)
