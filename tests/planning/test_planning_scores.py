"""From score rows to importance: weights, errors, metrics apart, and no trace of who delivered first."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.planning.scores import aggregate
from drop_ray.scoring.rows import ScoreRow


def row(sample, total, tokens, metric="cosine"):
    return ScoreRow(sample, 0, 1, "attention", metric, total, tokens)


def test_the_mean_weighs_tokens_and_the_error_is_that_of_the_samples():
    found = aggregate([row(0, 1.0, 10), row(1, 3.0, 10), row(2, 2.0, 10)])["cosine"].importance["attention", 0, 1]
    assert found.mean == pytest.approx(6 / 30)
    assert found.stderr == pytest.approx(0.1 / math.sqrt(3))


def test_each_metric_has_a_table_of_its_own_rows():
    rows = [row(0, 1.0, 10), row(0, 5.0, 10, "angular"), row(1, 1.0, 10), row(1, 7.0, 10, "angular")]
    means = {metric: table.mean("attention", 0) for metric, table in aggregate(rows).items()}
    assert means == {"cosine": pytest.approx(0.1), "angular": pytest.approx(0.6)}


@given(st.permutations([row(i, 0.1 * i + 1e-9 * i**3, 7) for i in range(12)]))
def test_the_order_in_which_workers_deliver_does_not_show(rows):
    ordered = aggregate([row(i, 0.1 * i + 1e-9 * i**3, 7) for i in range(12)])
    assert aggregate(rows) == ordered
