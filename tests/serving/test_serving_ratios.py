"""Ratios of paired measurements: exact small cases, symmetry, and intervals that cover what they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.serving.ratios import STUDENT_T_975, paired_ratio

POSITIVE = st.floats(1e-6, 1e6)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=30)


def sides(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [base for base, _ in pairs], [plan for _, plan in pairs]


def test_the_ratio_is_the_median_over_pairs_and_not_the_ratio_of_medians() -> None:
    ratio = paired_ratio([1, 10, 100], [2, 30, 500])
    assert ratio.value == pytest.approx(3)
    assert ratio.pairs == 3


def test_seconds_are_better_when_lower() -> None:
    assert paired_ratio([2.0, 2.0], [1.0, 1.0], higher_is_better=False).value == pytest.approx(2)


def test_the_middle_of_two_is_their_geometric_mean() -> None:
    assert paired_ratio([1, 1], [1, 4]).value == pytest.approx(2)


def test_the_interval_of_few_pairs_is_students_on_logarithms() -> None:
    ratio = paired_ratio([1] * 3, [math.exp(log) for log in (-1, 0, 1)])
    room = 4.3027 * 1 / math.sqrt(3)
    assert (math.log(ratio.low), math.log(ratio.high)) == pytest.approx((-room, room))


# Ranks of the 95 % interval of a median, as in tables of the sign test, such as Conover's.
@pytest.mark.parametrize(("pairs", "low", "high"), [(6, 1, 6), (8, 1, 8), (9, 2, 8), (12, 3, 10), (20, 6, 15)])
def test_the_interval_of_many_pairs_lies_between_order_statistics(pairs: int, low: int, high: int) -> None:
    ratio = paired_ratio([1] * pairs, [float(rank) for rank in range(1, pairs + 1)])
    assert (ratio.low, ratio.high) == pytest.approx((low, high))


def test_an_outlier_among_many_pairs_does_not_widen_the_interval() -> None:
    base, plan = [1.0] * 9, [1.1, 1.11, 1.12, 1.13, 1.14, 1.15, 1.16, 1.17, 1.18]
    assert paired_ratio(base, [*plan[:-1], 50.0]) == paired_ratio(base, plan)


@given(st.lists(POSITIVE, min_size=2, max_size=30))
def test_a_side_against_itself_is_exactly_one(values: list[float]) -> None:
    ratio = paired_ratio(values, values)
    assert (ratio.low, ratio.value, ratio.high) == (1, 1, 1)
    assert ratio.contains_one


@given(PAIRS)
def test_the_interval_holds_the_value(pairs: list[tuple[float, float]]) -> None:
    ratio = paired_ratio(*sides(pairs))
    assert ratio.low <= ratio.value <= ratio.high


@given(PAIRS, POSITIVE)
def test_the_unit_of_the_measurements_does_not_matter(pairs: list[tuple[float, float]], unit: float) -> None:
    base, plan = sides(pairs)
    scaled = paired_ratio([unit * value for value in base], [unit * value for value in plan])
    ratio = paired_ratio(base, plan)
    assert (scaled.low, scaled.value, scaled.high) == pytest.approx((ratio.low, ratio.value, ratio.high), rel=1e-6)


@given(PAIRS, st.randoms())
def test_the_order_of_the_pairs_does_not_matter(pairs: list[tuple[float, float]], chance) -> None:
    mixed = chance.sample(pairs, len(pairs))
    one, other = paired_ratio(*sides(pairs)), paired_ratio(*sides(mixed))
    assert (one.low, one.value, one.high) == pytest.approx((other.low, other.value, other.high), rel=1e-9)


@given(PAIRS)
def test_swapping_the_sides_inverts_the_ratio(pairs: list[tuple[float, float]]) -> None:
    base, plan = sides(pairs)
    there, back = paired_ratio(base, plan), paired_ratio(plan, base)
    assert math.log(there.value) == pytest.approx(-math.log(back.value), abs=1e-9)
    assert math.log(there.low) == pytest.approx(-math.log(back.high), rel=1e-6, abs=1e-9)
    assert math.log(there.high) == pytest.approx(-math.log(back.low), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("pairs", [3, 5, 6, 10, 25])
def test_intervals_cover_the_true_ratio_in_19_of_20_experiments(pairs: int) -> None:
    """The machine's own drift is as large as the speedup; only the pairing takes it out."""
    chance = np.random.default_rng(pairs)
    runs, true = 2000, 1.2
    drift = chance.lognormal(0, 0.2, (runs, pairs))
    base = drift * chance.lognormal(0, 0.02, (runs, pairs))
    plan = true * drift * chance.lognormal(0, 0.02, (runs, pairs))
    ratios = [paired_ratio(*run) for run in zip(base.tolist(), plan.tolist(), strict=True)]
    covered = np.mean([ratio.low <= true <= ratio.high for ratio in ratios])
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)
    assert covered < 0.99
    assert np.median([ratio.high - ratio.low for ratio in ratios]) < 0.2


def test_from_six_pairs_on_intervals_cover_the_median_of_a_lopsided_distribution_too() -> None:
    chance = np.random.default_rng(0)
    runs = 2000
    ratios = [paired_ratio([1.0] * 8, np.exp(chance.exponential(1, 8)).tolist()) for _ in range(runs)]
    covered = np.mean([math.log(ratio.low) <= math.log(2) <= math.log(ratio.high) for ratio in ratios])
    assert covered >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)


def test_students_quantiles_are_those_of_the_distribution() -> None:
    """With 2 and 3 pairs, 1 and 2 degrees of freedom, the quantile has a closed form."""
    assert STUDENT_T_975[2] == pytest.approx(math.tan(math.pi * 0.475), abs=1e-4)
    assert STUDENT_T_975[3] == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), abs=1e-4)


@pytest.mark.parametrize(
    ("base", "plan"), [([1.0], [1.0]), ([], []), ([1.0, 1.0], [1.0]), ([1.0, 0.0], [1.0, 1.0]), ([1, 1], [1, math.nan])]
)
def test_what_cannot_be_a_ratio_is_refused(base: list[float], plan: list[float]) -> None:
    with pytest.raises(ValueError, match="two pairs at least|positive and finite"):
        paired_ratio(base, plan)
