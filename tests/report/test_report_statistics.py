"""The numbers behind the report's answer, on cases small enough to do by hand."""

import math
from dataclasses import replace

import pytest

from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import DocumentRow, EvaluationRow, VariantRow
from drop_ray.report.statistics import (
    Estimate,
    averaged_tasks,
    is_within,
    mean_over_tasks,
    paired_difference,
    standings,
)

RUN = RunFacts("r", "m", "id", 2, "float32", "c", "now", {}, "")


def variant(name: str, strategy: str = "attention") -> VariantRow:
    return VariantRow(name, strategy, None, 1, () if name == "base" else (0,), (), 90, 10, 8, 8, None, 2_000)


def evaluation(variant: str, task: str, value: float, stderr: float | None = 0.1) -> EvaluationRow:
    return EvaluationRow(variant, task, "acc", value, stderr, True, 4, 0, True)


def results(evaluations: list[EvaluationRow], documents: list[DocumentRow] | None = None) -> Results:
    return Results(RUN, [], [variant("base", "base"), variant("p")], evaluations, documents or [], [])


def documents(variant: str, task: str, values: list[float], first: int = 0) -> list[DocumentRow]:
    return [DocumentRow(variant, task, "acc", first + index, value) for index, value in enumerate(values)]


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


def test_within_is_inclusive_and_one_sided() -> None:
    base = Estimate(0.5, 0.25)
    assert is_within(Estimate(0.25, None), base)
    assert not is_within(Estimate(0.2499, None), base)
    assert is_within(Estimate(0.9, None), base)
    assert not is_within(Estimate(math.nan, None), base)
    assert not is_within(Estimate(0.5, None), Estimate(0.5, None))


def test_only_primary_metrics_where_higher_is_better_are_averaged() -> None:
    perplexity = replace(evaluation("base", "wiki", 12.0), metric="ppl", higher_is_better=False)
    secondary = replace(evaluation("base", "a", 0.1), metric="acc_norm", primary=False)
    table = results([evaluation("base", "a", 0.6), perplexity, secondary, evaluation("p", "a", 0.5)])
    assert [(task.task, task.metric) for task in averaged_tasks(table)] == [("a", "acc")]
    base, dropped = standings(table)
    assert base.average == Estimate(0.6, 0.1)
    assert dropped.average == Estimate(0.5, 0.1)


def test_a_secondary_row_of_the_same_metric_is_not_averaged() -> None:
    # Tasks that filter answers in two ways report one metric twice.
    lenient = replace(evaluation("p", "a", 0.9), primary=False)
    table = results([evaluation("base", "a", 0.6), evaluation("p", "a", 0.5), lenient])
    assert standings(table)[1].average == Estimate(0.5, 0.1)


def test_a_variant_without_all_tasks_has_no_average() -> None:
    rows = [evaluation("base", "a", 0.6), evaluation("base", "b", 0.6), evaluation("p", "a", 0.9)]
    dropped = standings(results(rows))[1]
    assert dropped.average is None
    assert not dropped.within_one_stderr


def test_standing_pairs_within_tasks_and_averages_over_them() -> None:
    # The same doc_id means different documents in different tasks.
    rows = [evaluation(name, task, 0.5) for name in ("base", "p") for task in ("a", "b")]
    table = results(
        rows,
        [
            *documents("base", "a", [1, 1]),
            *documents("p", "a", [1, 0]),
            *documents("base", "b", [0, 0, 0]),
            *documents("p", "b", [1, 1, 1]),
        ],
    )
    base, dropped = standings(table)
    assert base.paired is None
    assert dropped.paired is not None
    assert dropped.paired.value == pytest.approx(0.25)  # (-1/2 + 1) / 2
    assert dropped.paired.stderr == pytest.approx(0.25)  # sqrt(0.5/2 + 0) / 2
    assert dropped.paired.num_documents == 5


def test_one_task_without_documents_leaves_no_paired_difference() -> None:
    rows = [evaluation(name, task, 0.5) for name in ("base", "p") for task in ("a", "b")]
    table = results(rows, [*documents("base", "a", [1, 1]), *documents("p", "a", [1, 0])])
    assert standings(table)[1].paired is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": [variant("p")]}, "first variant must be the base"),
        ({"variants": [variant("base", "base"), variant("p"), variant("p")]}, "not unique"),
        ({"evaluations": [evaluation("ghost", "a", 1.0)]}, "unknown variants.*ghost"),
        ({"evaluations": [evaluation("p", "a", 1.0), evaluation("p", "a", 0.5)]}, "more than one primary"),
    ],
)
def test_contradicting_rows_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(results([]), **change)
