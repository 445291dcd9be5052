"""What the answers to the gates amount to: exact bounds, and who passes."""

import math
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drop_ray.evaluation.gates.intervals import lower_share, paired_loss, upper_share
from drop_ray.evaluation.gates.result import Answers, GateResult, SkippedGate
from drop_ray.evaluation.gates.verdict import judge

ITEMS = 64


def pairs(both=0, lost=0, gained=0, neither=0):
    """Right or wrong by item, of the base and of the variant."""
    counts = {(True, True): both, (True, False): lost, (False, True): gained, (False, False): neither}
    items = [pair for pair, count in counts.items() for _ in range(count)]
    return [base for base, _ in items], [variant for _, variant in items]


@pytest.mark.parametrize(
    ("count", "total", "risk", "lower", "upper"),
    [
        # Clopper and Pearson's, as R's binom.test gives them: 95 % of 0 of 10, of 5 of 10, of 10 of 10.
        (0, 10, 0.025, 0, 0.3085),
        (5, 10, 0.025, 0.1871, 0.8129),
        (10, 10, 0.025, 0.6915, 1),
        (1, 2, 0.05, 1 - math.sqrt(0.95), math.sqrt(0.95)),
    ],
)
def test_bounds_of_a_share(count, total, risk, lower, upper):
    assert lower_share(count, total, risk) == pytest.approx(lower, abs=5e-5)
    assert upper_share(count, total, risk) == pytest.approx(upper, abs=5e-5)


def mcnemar(lost, gained):
    """P(at least so many of the differing items are lost), if loss and gain are as likely."""
    differ = lost + gained
    return sum(math.comb(differ, count) for count in range(lost, differ + 1)) / 2**differ


def test_a_loss_is_above_zero_exactly_if_mcnemars_exact_test_says_so():
    for lost, gained in product(range(15), range(15)):
        base, variant = pairs(lost=lost, gained=gained, both=2)
        low = paired_loss(base, variant, 0.1, 0.1).low
        assert (low > 0) == (mcnemar(lost, gained) < 0.05), (lost, gained)


def outcomes(total):
    return [(lost, gained) for lost in range(total + 1) for gained in range(total + 1 - lost)]


@pytest.mark.parametrize("risk", [0.05, 0.2])
def test_bounds_fail_no_more_often_than_they_may(risk):
    """All outcomes of 10 items, for shares of lost and gained on a grid: the failures' probabilities are summed."""
    total = 10
    bounds = {
        (lost, gained): paired_loss(*pairs(total - lost - gained, lost, gained), risk, risk)
        for lost, gained in outcomes(total)
    }
    for lose, gain in [(a / 20, b / 20) for a in range(21) for b in range(21 - a)]:
        fails = {"low": 0.0, "high": 0.0}
        for (lost, gained), loss in bounds.items():
            same = total - lost - gained
            ways = math.comb(total, lost) * math.comb(total - lost, gained)
            chance = ways * lose**lost * gain**gained * (1 - lose - gain) ** same if lose + gain < 1 or not same else 0
            fails["low"] += chance * (loss.low > lose - gain + 1e-12)
            fails["high"] += chance * (loss.high < lose - gain - 1e-12)
        assert max(fails.values()) <= risk, (lose, gain, fails)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80), st.floats(0.001, 0.4), st.randoms())
@settings(max_examples=200, deadline=None)
def test_bounds_hold_the_value_and_do_not_depend_on_the_order(items, risk, draw):
    loss = paired_loss(*zip(*items, strict=True), risk, risk)
    assert -1 <= loss.low <= loss.value <= loss.high <= 1
    draw.shuffle(items)
    assert paired_loss(*zip(*items, strict=True), risk, risk) == loss


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="0 and 0 items are no pairs"):
        paired_loss([], [], 0.1, 0.1)
    with pytest.raises(ValueError, match="2 and 1 items"):
        paired_loss([True, True], [True], 0.1, 0.1)


def gate(right, name="needle-1024", chance=0.25, **fields):
    return GateResult(name, name.replace("-", " at "), chance, tuple(right), **fields)


def verdict(*items, chance=0.25, tolerance=0.1, others=()):
    """Of one gate, whose items are as `pairs` has them; others: further pairs of results."""
    base, variant = pairs(*items)
    results = [(gate(base, chance=chance), gate(variant, chance=chance)), *others]
    sides = (Answers(tuple(side)) for side in zip(*results, strict=True))
    return judge(*sides, tolerance, 0.95)


@pytest.mark.parametrize(
    ("items", "outcome"),
    [
        ((ITEMS, 0, 0), "accept"),
        ((60, 2, 0, 2), "accept"),
        ((34, 13, 13, 4), "cannot tell"),  # no loss as measured, but one of 0.2 may hide in so many that differ
        ((40, 10, 10, 4), "accept"),
        ((57, 7, 0), "regression"),
        ((54, 10, 4), "cannot tell"),
        ((50, 14, 4), "regression"),
        ((50, 12, 2), "regression"),
        ((50, 11, 3), "cannot tell"),  # P = 0.029 by McNemar's test, and half of 0.05 is 0.025
        ((48, 13, 6), "cannot tell"),  # 0.10 measured, and McNemar's test sees nothing
        ((0, 64, 0), "regression"),
        ((32, 0, 32), "accept"),
    ],
)
def test_what_one_gate_says(items, outcome):
    total = sum(items)
    found = verdict(*items)
    (only,) = found.gates
    loss = (items[1] - items[2]) / total
    low, high = only.loss.low, only.loss.high
    by_rule = "regression" if loss > 0.1 and low > 0 else "accept" if loss <= 0.1 and high < 0.2 else "cannot tell"
    assert only.outcome == found.outcome == by_rule == outcome, (loss, low, high)


def test_a_reason_has_the_numbers():
    assert verdict(26, 36, 0, 2).reason == "needle at 1024: 0.97 -> 0.41, loses 0.56 (0.35 to 0.69)"
    assert "0.50 -> 1.00, gains 0.50 (" in verdict(32, 0, 32).reason
    assert verdict(48, 13, 6).reason.endswith(", which 67 items cannot tell from no loss")


def test_a_gate_at_which_the_base_itself_guesses_says_nothing():
    found = verdict(10, 10, 10, 34, chance=0.25)  # the base gets 20 of 64 right
    assert found.gates[0].outcome == "not informative"
    assert found.gates[0].reason == (
        "needle at 1024: not informative, the base itself gets 0.31 right (at least 0.22), guessing 0.25"
    )
    assert (found.outcome, found.reason) == ("cannot tell", "no gate says anything of this model")
    # The same base can lose more than the tolerance where guessing gets nothing.
    assert verdict(10, 10, 10, 34, chance=0).gates[0].outcome != "not informative"


def test_one_loss_stops_a_plan_and_one_doubt_leaves_it_open():
    fine, lost, open_ = ([True] * ITEMS, [True] * ITEMS), pairs(44, 20), pairs(34, 13, 13, 4)

    def named(name, sides):
        return tuple(gate(side, name) for side in sides)

    assert verdict(ITEMS, others=[named("copying", fine)]).outcome == "accept"
    assert verdict(ITEMS, others=[named("copying", open_)]).outcome == "cannot tell"
    stopped = verdict(ITEMS, others=[named("copying", open_), named("brackets", lost)])
    assert (stopped.outcome, stopped.passes) == ("regression", False)
    assert stopped.reason.startswith("brackets: 1.00 -> 0.69, loses 0.31")
    assert verdict(ITEMS, others=[named("copying", open_)]).passes


def test_lower_bounds_pay_for_the_number_of_informative_gates_and_upper_ones_do_not():
    fine = [True] * ITEMS
    one = verdict(54, 10)
    many = verdict(54, 10, others=[(gate(fine, f"g-{number}"), gate(fine, f"g-{number}")) for number in range(9)])
    assert many.gates[0].loss.low < one.gates[0].loss.low
    assert many.gates[0].loss.high == one.gates[0].loss.high
    # One that says nothing costs nothing.
    silent = [True] * 16 + [False] * 48
    assert verdict(54, 10, others=[(gate(silent, "g"), gate(silent, "g"))]).gates[0] == one.gates[0]


def test_a_variant_without_numbers_is_a_regression_with_that_reason():
    base = Answers((gate([True] * ITEMS), gate([True] * ITEMS, "copying", 0.0)))
    broken = gate([], fault="256 of 256 log-likelihoods are not finite (nan)")
    found = judge(base, Answers((broken, base.results[1])), 0.1, 0.95)
    assert found.outcome == "regression"
    assert found.reason == "needle at 1024: 256 of 256 log-likelihoods are not finite (nan)"
    assert found.gates[0].variant is None
    # Also at a gate that would say nothing, since the base does have numbers there.
    guessing = replace(base, results=(gate([True] * 16 + [False] * 48),))
    assert judge(guessing, Answers((broken,)), 0.1, 0.95).outcome == "regression"


def test_a_base_without_numbers_judges_nobody():
    broken = gate([], fault="not finite")
    found = judge(Answers((broken,)), Answers((broken,)), 0.1, 0.95)
    assert found.outcome == "cannot tell"
    assert found.gates[0].reason == "needle at 1024: not informative, the base itself has no numbers (not finite)"


def test_gates_that_were_skipped_are_named_and_decide_nothing():
    base = Answers((gate([True] * ITEMS),), (SkippedGate("arithmetic", "two-digit arithmetic", "no digits"),))
    found = judge(base, base, 0.1, 0.95)
    assert found.outcome == "accept"
    assert found.gates[-1].reason == "two-digit arithmetic: skipped, no digits"
    assert found.reason.startswith("1 of 2 gates are informative, and none loses more than 0.10; needle at 1024: ")
