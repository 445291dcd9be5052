"""The permutation test of two samples: its level where nothing differs, exact p-values, and what it sees."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from drop_ray.serving.two_samples import DRAWS, MOST_KINDS, p_value, smallest_possible


def drawn(seed, shares, count):
    return np.random.default_rng(seed).choice(len(shares), count, p=shares).tolist()


def exact(one, other):
    """The share of all divisions of the pooled sample whose chi-squared is at least as large."""
    pooled, kinds = [*one, *other], sorted({*one, *other})

    def statistic(first):
        rows = [
            [sum(pooled[i] == kind for i in range(len(pooled)) if (i in first) == side) for kind in kinds]
            for side in (True, False)
        ]
        return chi2_contingency(rows, correction=False).statistic

    observed = statistic({*range(len(one))})
    values = [statistic({*chosen}) for chosen in combinations(range(len(pooled)), len(one))]
    return np.mean([value >= observed - 1e-9 for value in values])


@pytest.mark.parametrize(
    ("one", "other"),
    [("aaab", "abbb"), ("aaaa", "bbbb"), ("aabbc", "abccc"), ("ab", "abcdd"), ("aaaa", "aabc")],
)
def test_it_is_the_share_of_all_divisions_that_differ_as_much(one, other):
    assert p_value(one, other, 0) == pytest.approx(exact(one, other), abs=4 * np.sqrt(0.25 / DRAWS))


def test_samples_of_one_distribution_are_taken_to_differ_no_more_often_than_stated():
    shares = (0.5, 0.2, 0.1, 0.1, 0.05, 0.05)
    values = np.array([p_value(drawn(2 * i, shares, 60), drawn(2 * i + 1, shares, 60), i, 499) for i in range(1500)])
    for level in (0.01, 0.05, 0.2):
        # Three standard errors above; and not far below, or the test would see nothing.
        error = np.sqrt(level * (1 - level) / len(values))
        assert level - 4 * error < (values <= level).mean() < level + 3 * error


def test_a_biased_sample_is_seen():
    fair, biased = (0.4, 0.3, 0.2, 0.1), (0.5, 0.3, 0.15, 0.05)
    values = [p_value(drawn(2 * i, fair, 512), drawn(2 * i + 1, biased, 512), i) for i in range(20)]
    assert sum(value < 0.01 for value in values) >= 17


def test_equal_samples_and_samples_of_one_kind_do_not_differ():
    assert p_value("abc" * 9, "abc" * 9, 0) == 1
    assert p_value("aaa", "aaaaa", 0) == 1


def test_the_smallest_is_that_of_the_number_of_draws():
    assert p_value([1] * 200, [2] * 200, 0) == smallest_possible()
    assert p_value([1] * 200, [2] * 200, 0, draws=99) == smallest_possible(99) == 0.01


def test_rare_kinds_are_one_kind_and_a_difference_in_them_is_seen():
    common = [*range(MOST_KINDS)] * 20
    assert p_value([*common, *range(100, 200)], [*common, *range(200, 300)], 0) > 0.5
    assert p_value([*common, *range(100, 200)], common, 0) < 0.001


def test_a_seed_decides_the_draws():
    one, other = drawn(0, (0.5, 0.5), 40), drawn(1, (0.6, 0.4), 40)
    assert p_value(one, other, 5) == p_value(one, other, 5)
