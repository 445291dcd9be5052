"""Which plans are kept, and what is said of the others."""

import math

import pytest

from drop_ray.evaluation.screening import Candidate, screen


def candidates(**values):
    """KL and parameters by name."""
    return [Candidate(name, *value) for name, value in values.items()]


def test_the_lowest_divergences_are_kept_in_the_order_of_the_plans():
    plans = candidates(a=(0.3, 80), b=(0.1, 90), c=(0.2, 85))
    found = screen(plans, 2)
    assert found.kept == ("b", "c")
    assert found.reasons == {
        "a": "KL 0.3 is the 3rd lowest of 3; 2 are kept",
        "b": "KL 0.1 is the lowest of 3; 2 are kept",
        "c": "KL 0.2 is the 2nd lowest of 3; 2 are kept",
    }


def test_more_than_there_are_keeps_all():
    assert screen(candidates(a=(0.3, 80), b=(0.1, 90)), 8).kept == ("a", "b")


def test_equal_divergences_go_by_parameters_then_by_order():
    assert screen(candidates(a=(0.1, 90), b=(0.1, 80), c=(0.1, 80)), 1).kept == ("b",)
    assert screen(candidates(a=(0.1, 90), c=(0.1, 80), b=(0.1, 80)), 2).kept == ("c", "b")


@pytest.mark.parametrize(
    ("number", "place"), [(2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st"), (22, "22nd")]
)
def test_places_are_spelled_as_people_do(number, place):
    plans = [Candidate(f"p{index}", float(index), 1) for index in range(1, 31)]
    assert f"the {place} lowest of 30; 8 are kept" in screen(plans, 8).reasons[f"p{number}"]


def test_pareto_keeps_what_no_other_beats():
    plans = candidates(small=(0.5, 70), middle=(0.2, 80), worse=(0.3, 80), bad=(0.6, 90), large=(0.1, 90))
    found = screen(plans, "pareto")
    assert found.kept == ("small", "middle", "large")
    assert found.reasons["worse"] == "KL 0.3 with 80 parameters: middle has KL 0.2 with 80"
    assert found.reasons["bad"] == "KL 0.6 with 90 parameters: large has KL 0.1 with 90"
    assert found.reasons["small"] == "KL 0.5 with 70 parameters: no other plan has less of both"


def test_pareto_keeps_equals():
    assert screen(candidates(a=(0.2, 80), b=(0.2, 80)), "pareto").kept == ("a", "b")


@pytest.mark.parametrize("keep", [2, "pareto"])
@pytest.mark.parametrize(("kl", "why"), [(math.nan, "its KL is nan"), (math.inf, "its KL is inf"), (None, "no panel")])
def test_a_divergence_that_is_no_number_is_left_out_and_beats_nobody(keep, kl, why):
    found = screen(candidates(odd=(kl, 1), fine=(0.4, 80)), keep)
    assert found.kept == ("fine",)
    assert why in found.reasons["odd"]


def test_none_may_be_left():
    assert screen(candidates(a=(math.nan, 1)), 3).kept == ()
    assert screen([], 3).kept == ()
