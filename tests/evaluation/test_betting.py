"""The interval of a difference holds at all looks, narrows, and is not stopped early by a dull beginning."""

import numpy as np
import pytest

from drop_ray.evaluation.targets.betting import mean_difference_interval
from drop_ray.evaluation.targets.target import looks


def population(size, up, down):
    """Differences of that many documents, of which shares go from wrong to right and back."""
    values = np.zeros(size)
    values[: round(size * up)] = 1
    values[round(size * up) : round(size * up) + round(size * down)] = -1
    return values


def stops_at(values, within, confidence=0.95):
    """The look at which the interval is narrow enough, and whether it missed the mean at any look until then."""
    missed = False
    for count in looks(len(values)):
        low, high = mean_difference_interval(values[:count], len(values), within, confidence)
        missed |= not low - 1e-6 <= values.mean() <= high + 1e-6
        if (high - low) / 2 <= within:
            break
    return count, missed


@pytest.mark.parametrize(
    ("size", "up", "down", "within"),
    [(2000, 0.05, 0.05, 0.02), (600, 0.0, 0.02, 0.03), (600, 0.4, 0.5, 0.05), (300, 0.01, 0.0, 0.03)],
)
def test_the_interval_misses_at_some_look_no_more_often_than_stated(size, up, down, within):
    # 80 % intervals: with 95 % ones a fault by a factor of two would need thousands of draws to be seen.
    draws, values = np.random.default_rng(0), population(size, up, down)
    missed = sum(stops_at(draws.permutation(values), within, confidence=0.8)[1] for _ in range(150))
    assert missed <= 0.2 * 150 + 2 * np.sqrt(150 * 0.2 * 0.8)


def test_a_fixed_sample_interval_would_fail_that_simulation():
    # What the simulation can see: the normal interval, looked at as often, misses more often than stated.
    draws, values = np.random.default_rng(0), population(2000, 0.05, 0.05)

    def missed_once(order):
        for count in looks(len(order)):
            if count == len(order):
                return False
            error = 1.2816 * order[:count].std(ddof=1) / np.sqrt(count)
            if abs(order[:count].mean() - order.mean()) > error:
                return True
        return False

    missed = sum(missed_once(draws.permutation(values)) for _ in range(150))
    assert missed > 0.2 * 150 + 2 * np.sqrt(150 * 0.2 * 0.8)


@pytest.mark.parametrize(
    ("size", "up", "down", "within", "at_most"),
    [
        # Twice what an interval for one fixed number of documents would take (876, 2775, 490).
        (10_000, 0.05, 0.05, 0.02, 1752),
        (10_000, 0.05, 0.05, 0.01, 5550),
        (1000, 0.05, 0.05, 0.02, 980),
    ],
)
def test_it_takes_at_most_twice_the_documents_of_a_fixed_number(size, up, down, within, at_most):
    draws, values = np.random.default_rng(1), population(size, up, down)
    assert np.median([stops_at(draws.permutation(values), within)[0] for _ in range(9)]) <= at_most


def test_documents_without_any_difference_do_not_stop_it_at_once():
    # One in 50 may still differ: 95 % certain that it is fewer takes log(40) / 0.02 = 184 documents at least.
    count, _ = stops_at(np.zeros(10_000), within=0.02)
    assert 184 <= count <= 400


def test_what_is_left_bounds_the_mean():
    low, high = mean_difference_interval([1.0] * 90, 100, 0.01, 0.95)
    assert low >= (90 - 10) / 100 - 1e-6
    assert high == pytest.approx(1)
    exact = mean_difference_interval([1.0, 0.0, -1.0, -1.0], 4, 0.01, 0.95)
    assert exact == pytest.approx((-0.25, -0.25))


def test_the_interval_of_the_opposite_is_the_opposite():
    values = np.random.default_rng(2).permutation(population(500, 0.1, 0.02))[:200]
    low, high = mean_difference_interval(values, 500, 0.02, 0.95)
    assert mean_difference_interval(-values, 500, 0.02, 0.95) == pytest.approx((-high, -low), abs=1e-6)


def test_nothing_seen_says_nothing():
    assert mean_difference_interval([], 10, 0.02, 0.95) == (-1, 1)


@pytest.mark.parametrize("values", [[1.5], [float("nan")], [0.0, 0.0]])
def test_differences_out_of_range_or_too_many_are_refused(values):
    with pytest.raises(ValueError, match="in \\[-1, 1\\]"):
        mean_difference_interval(values, 1, 0.02, 0.95)
