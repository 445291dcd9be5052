"""The rule `accept`: what is acceptable, what is not, what cannot be told, and that weak evidence accepts nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
from judged_results import BASE, judged, variant

from drop_ray.config import AcceptSpec
from drop_ray.evaluation.losses import Answers, mean_loss
from drop_ray.report.acceptance import acceptance
from drop_ray.report.divergence_rows import DivergenceSampleRow
from drop_ray.report.evidence import candidates
from drop_ray.report.judgement import TargetRow
from drop_ray.report.tables import topic_table

A = variant("a-1", (1,))


def rule(**fields):
    return AcceptSpec(**fields)


def only(results):
    (row,) = acceptance(results)
    return row


@pytest.mark.parametrize(
    ("flips", "outcome"),
    [
        ((0, 0, 400), "acceptable"),  # at most 2.7 / 403 = 0.67 points
        ((0, 0, 250), "cannot tell"),  # 1.07 points
        ((40, 0, 400), "not acceptable"),
        ((10, 10, 400), "cannot tell"),
        ((0, 40, 400), "acceptable"),
    ],
)
def test_a_variant_is_acceptable_if_the_upper_bound_is_within_the_loss(flips, outcome):
    row = only(judged([A], {("a-1", "t"): flips}))
    assert row.outcome == outcome
    assert (row.high <= 0.01, row.low > 0.01) == (outcome == "acceptable", outcome == "not acceptable")
    assert row.loss == pytest.approx((flips[0] - flips[1]) / flips[2])
    assert row.documents == flips[2]
    assert (row.needed is not None) == (outcome == "cannot tell")


def test_documents_that_are_needed_have_two_digits():
    assert only(judged([A], {("a-1", "t"): (0, 0, 10)})).needed == 270


def test_loss_and_confidence_are_the_users():
    results = judged([A], {("a-1", "t"): (6, 0, 400)})
    outcomes = [
        only(replace(results, accept=rule(loss=loss, confidence=sure))).outcome
        for loss, sure in (("1 point", 0.95), ("3 points", 0.95), ("3 points", 0.999), ("0.1 points", 0.95))
    ]
    assert outcomes == ["cannot tell", "acceptable", "cannot tell", "not acceptable"]


def test_tasks_are_averaged_and_one_that_loses_too_much_is_told():
    flips = {("a-1", "good"): (0, 60, 400), ("a-1", "bad"): (50, 0, 400)}
    row = only(judged([A], flips))
    assert row.outcome == "acceptable"
    assert row.falls == ("bad",)
    assert row.documents == 800
    parts = mean_loss([Answers(0, 60, 400), Answers(50, 0, 400)], 0.95)
    assert (row.loss, row.low, row.high) == (parts.value, parts.low, parts.high)


def test_each_task_may_be_held_to_a_loss_of_its_own():
    """A good average excuses no task, and few documents of a task make it open, never acceptable."""
    each = rule(each_task="5 points")
    flips = {("a-1", "good"): (0, 100, 400), ("a-1", "bad"): (50, 0, 400)}
    row = only(replace(judged([A], flips), accept=each))
    assert (row.outcome, row.over, row.needed, row.looks_acceptable) == ("not acceptable", ("bad",), None, False)
    assert only(replace(judged([A], flips), accept=rule(each_task="20 points"))).outcome == "acceptable"
    few = {**flips, ("a-1", "bad"): (0, 0, 30)}  # at most 2.7 / 33 = 8.2 points
    row = only(replace(judged([A], few), accept=each))
    assert (row.outcome, row.over, row.looks_acceptable) == ("cannot tell", (), True)
    assert row.needed == 52
    enough = {**flips, ("a-1", "bad"): (0, 0, row.needed)}
    assert only(replace(judged([A], enough), accept=each)).outcome == "acceptable"


def test_tasks_beside_the_rule_are_held_too_and_must_have_a_number():
    results = judged([A], {("a-1", "good"): (0, 0, 400), ("a-1", "bad"): (50, 0, 400)})
    row = only(replace(results, accept=rule(metric="good", each_task="5 points")))
    assert (row.outcome, row.over) == ("not acceptable", ("bad",))
    without = [one for one in results.evaluations if (one.variant, one.task) != ("a-1", "bad")]
    row = only(replace(results, evaluations=without, accept=rule(metric="good", each_task="5 points")))
    assert (row.outcome, row.reason) == ("cannot tell", "it was not evaluated on bad")


def test_the_rule_may_be_of_one_task_and_the_others_are_told_beside_it():
    results = judged([A], {("a-1", "good"): (0, 0, 400), ("a-1", "bad"): (50, 0, 400)})
    row = only(replace(results, accept=rule(metric="good")))
    assert (row.outcome, row.falls) == ("acceptable", ("bad",))
    assert only(replace(results, accept=rule(metric="bad"))).outcome == "not acceptable"


def test_the_rule_may_be_of_kl():
    samples = [DivergenceSampleRow("a-1", index, 100, kl, 2.0, 2.1, 0.9, 0.9) for index, kl in enumerate((0.01, 0.03))]
    results = judged([A], {("a-1", "t"): (0, 0, 400)})
    panel = {"divergences": [FakePanel("a-1")], "divergence_samples": samples}
    row = only(replace(results, accept=rule(metric="kl", loss="0.1 nats"), **panel))
    assert (row.outcome, row.loss, row.documents, row.falls) == ("acceptable", 0.02, 2, ())
    assert row.high == pytest.approx(0.02 + 6.3138 * 0.01, abs=1e-5)
    assert only(replace(results, accept=rule(metric="kl", loss="0.05 nats"), **panel)).outcome == "cannot tell"
    without = only(replace(results, accept=rule(metric="kl", loss="0.05 nats")))
    assert (without.outcome, without.reason) == ("cannot tell", "it has no panel")


class FakePanel:
    """What of a panel's row the rule looks at."""

    def __init__(self, name):
        self.variant = name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row: None, "it was not evaluated on t"),
        (lambda row: replace(row, value=math.nan), "there is no number of t"),
    ],
)
def test_without_a_number_it_cannot_be_told_and_the_reason_is_said(change, reason):
    results = judged([A], {("a-1", "t"): (0, 0, 400), ("a-1", "u"): (0, 0, 400)})
    rows = [change(row) if (row.variant, row.task) == ("a-1", "t") else row for row in results.evaluations]
    row = only(replace(results, evaluations=[row for row in rows if row]))
    assert (row.outcome, row.loss, row.reason) == ("cannot tell", None, reason)


def test_without_common_documents_it_cannot_be_told():
    results = judged([A], {("a-1", "t"): (0, 0, 400)})
    row = only(replace(results, documents=[row for row in results.documents if row.variant == "base"]))
    assert row.reason == "there are no documents of t that can be paired with the base's"


def test_a_task_that_ended_at_its_target_has_the_interval_of_the_target():
    results = judged([A], {("a-1", "t"): (0, 0, 400)})
    target = TargetRow("a-1", "t", "acc", 0.02, 0.95, 400, 5000, -0.01, -0.03, 0.01, "")
    row = only(replace(results, targets=[target], accept=rule(loss="2 points")))
    assert (row.outcome, row.loss) == ("cannot tell", pytest.approx(0.01))
    assert row.high == pytest.approx(0.03)
    weak = only(replace(results, targets=[replace(target, confidence=0.9)]))
    assert weak.reason == "t has a target of less confidence (0.9)"
    whole = only(replace(results, targets=[replace(target, documents=5000)]))
    assert whole.outcome == "acceptable"


def test_candidates_are_all_but_the_base_and_what_equals_it():
    made = [A, variant("base-awq", (), quantized="base"), variant("nothing", ()), replace(A, name="a-1-refit")]
    assert [row.name for row in candidates(judged(made, {}))] == ["a-1", "base-awq", "a-1-refit"]
    lacking = replace(BASE, drop_attn=(3,))
    results = replace(judged([A], {}), variants=[lacking, replace(A, name="same", drop_attn=(3,)), A])
    assert [row.name for row in candidates(results)] == ["a-1"]


def test_the_table_has_a_row_for_each_variant():
    table = topic_table("acceptance", judged([A], {("a-1", "good"): (0, 60, 400), ("a-1", "bad"): (50, 0, 400)}))
    assert table["falls"].to_pylist() == [["bad"]]
    assert table["looks_acceptable"].to_pylist() == [True]


PLANS = [(0.004, 0.004), (0.006, 0.003), (0.02, 0.015), (0.03, 0.011), (0.07, 0.026), (0.1, 0.03), (0.2, 0.05)]
"""Shares of documents that plans lose and gain: from no loss to one as of the demo's attention-8."""


def test_fewer_documents_never_make_more_plans_acceptable():
    """Over random subsamples of three tasks; the standard error of the mean counts is about 0.05."""
    chance, counts = np.random.default_rng(0), {}
    for documents in (10, 30, 100, 300, 1000, 3000):
        accepted = 0
        for _ in range(40):
            for lost, gained in PLANS:
                drawn = chance.multinomial(documents, [lost, gained, 1 - lost - gained], size=3).tolist()
                tasks = [Answers(one[0], one[1], documents) for one in drawn]
                accepted += mean_loss(tasks, 0.95).high <= rule().allowed
        counts[documents] = accepted / 40
    assert [*counts.values()] == sorted(counts.values())
    assert counts[10] == 0
    assert counts[3000] > 2.5


def test_fewer_of_the_same_documents_never_make_more_plans_acceptable():
    """The reports of nested parts of one run's documents, over orders in which these come."""
    chance, sizes = np.random.default_rng(1), (16, 40, 100, 250, 1000)
    plans = [variant(f"p-{number}", (number,)) for number in range(len(PLANS))]
    names = [(plan.name, task) for plan in plans for task in "tuv"]
    shares = {plan.name: share for plan, share in zip(plans, PLANS, strict=True)}
    kinds = {
        place: chance.choice([1, -1, 0], size=sizes[-1], p=[*shares[place[0]], 1 - sum(shares[place[0]])])
        for place in names
    }
    accepted = dict.fromkeys(sizes, 0)
    for _ in range(12):
        orders = {task: chance.permutation(sizes[-1]) for task in "tuv"}
        for size in sizes:
            part = {place: kinds[place][orders[place[1]][:size]] for place in names}
            flips = {place: (int((one == 1).sum()), int((one == -1).sum()), size) for place, one in part.items()}
            accepted[size] += sum(row.outcome == "acceptable" for row in acceptance(judged(plans, flips)))
    assert [*accepted.values()] == sorted(accepted.values())
    assert accepted[16] == accepted[40] == 0
    assert accepted[1000] >= 12


def test_the_same_shares_of_fewer_documents_have_a_higher_upper_bound():
    for lost, gained in PLANS:
        bounds = [mean_loss([Answers(n * lost, n * gained, n)] * 3, 0.95).high for n in (16, 40, 100, 250, 1000)]
        assert bounds == sorted(bounds, reverse=True)


def test_of_few_documents_none_is_acceptable_however_they_fall():
    """What the standard error of a difference, 0 without flips, would call sure."""
    assert only(judged([A], {("a-1", "t"): (0, 0, 10), ("a-1", "u"): (0, 0, 10)})).outcome == "cannot tell"
