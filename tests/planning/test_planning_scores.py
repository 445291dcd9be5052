"""From score rows to importance: weights, errors, metrics apart, and no trace of who delivered first."""

import math
import random
from dataclasses import asdict

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drop_ray.job.artifacts import SCORE_SCHEMA
from drop_ray.planning import scores
from drop_ray.scoring.rows import ScoreRow


def aggregate(rows):
    return scores.aggregate(pa.Table.from_pylist([asdict(row) for row in rows], SCORE_SCHEMA))


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


def test_many_modules_and_metrics_in_chunks_keep_to_themselves():
    """To the last bit what the formula gives for each module alone, from the rows as lists."""
    values = random.Random(1)
    rows = [
        ScoreRow(sample, layer, gap, module, metric, values.uniform(0, 50), values.randrange(1, 60))
        for sample in range(9)
        for module, gaps in (("attention", (1,)), ("block", (1, 2)))
        for gap in gaps
        for layer in range(5)
        for metric in ("cosine", "angular")
    ]
    values.shuffle(rows)
    tables = [pa.Table.from_pylist([asdict(row) for row in part], SCORE_SCHEMA) for part in (rows[:50], rows[50:])]
    found = scores.aggregate(pa.concat_tables(tables))
    assert found.keys() == {"cosine", "angular"}
    for metric, table in found.items():
        assert len(table.importance) == 15
        for (module, layer, gap), importance in table.importance.items():
            same = [row for row in rows if (row.metric, row.module, row.layer, row.gap) == (metric, module, layer, gap)]
            means = [row.total / row.tokens for row in same]
            center = math.fsum(means) / 9
            assert importance.mean == math.fsum(row.total for row in same) / sum(row.tokens for row in same)
            assert importance.stderr == math.sqrt(math.fsum((mean - center) ** 2 for mean in means) / 8 / 9)


def test_no_rows_make_no_table():
    assert aggregate([]) == {}
