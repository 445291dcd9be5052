"""Means and paired differences, on cases small enough to do by hand."""

import pytest

from drop_ray.evaluation.estimates import Estimate, mean_over_tasks, paired_difference


def test_mean_over_tasks_adds_variances() -> None:
    mean = mean_over_tasks([Estimate(0.5, 0.03), Estimate(0.7, 0.04)])
    assert mean.value == pytest.approx(0.6)
    assert mean.stderr == pytest.approx(0.025)  # sqrt(0.03^2 + 0.04^2) / 2


def test_one_unknown_error_makes_the_mean_error_unknown() -> None:
    assert mean_over_tasks([Estimate(0.5, 0.03), Estimate(0.7, None)]) == Estimate(0.6, None)


def test_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no tasks"):
        mean_over_tasks([])


def test_order_of_tasks_does_not_change_a_mean() -> None:
    values = [Estimate(0.1, 0.1), Estimate(1e16, 0.2), Estimate(-1e16, 0.3)]
    assert mean_over_tasks(values) == mean_over_tasks(values[::-1])


def test_paired_difference_by_hand() -> None:
    pair = paired_difference({1: 1.0, 2: 0.0, 3: 1.0, 4: 1.0}, {4: 1.0, 3: 1.0, 2: 1.0, 1: 1.0})
    assert pair is not None
    assert pair.value == -0.25
    assert pair.stderr == pytest.approx(0.25)  # differences 0, -1, 0, 0: variance 0.25, over 4 documents
    assert pair.num_documents == 4


def test_paired_difference_uses_common_documents_only() -> None:
    pair = paired_difference({1: 1.0, 2: 0.0, 9: 0.0}, {1: 0.0, 2: 0.0, 7: 1.0})
    assert pair is not None
    assert (pair.value, pair.num_documents) == (0.5, 2)


def test_paired_difference_without_common_documents_and_of_one() -> None:
    assert paired_difference({1: 1.0}, {2: 1.0}) is None
    single = paired_difference({1: 1.0}, {1: 0.0})
    assert single is not None
    assert single.stderr is None
