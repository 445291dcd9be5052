"""The numbers behind the report's answer, on cases small enough to do by hand."""

from dataclasses import replace

import pytest

from drop_ray.evaluation.estimates import Estimate
from drop_ray.report.results import Results, RunFacts
from drop_ray.report.rows import DocumentRow, EvaluationRow, VariantRow
from drop_ray.report.statistics import averaged_tasks, standings

RUN = RunFacts("r", "m", "id", 2, "float32", "c", "now", {}, "")


def variant(name: str, strategy: str = "attention") -> VariantRow:
    return VariantRow(name, strategy, None, 1, () if name == "base" else (0,), (), 90, 10, 8, 8, None, 2_000)


def evaluation(variant: str, task: str, value: float, stderr: float | None = 0.1) -> EvaluationRow:
    return EvaluationRow(variant, task, "acc", value, stderr, True, 4, 0, True)


def results(evaluations: list[EvaluationRow], documents: list[DocumentRow] | None = None) -> Results:
    return Results(RUN, [], [variant("base", "base"), variant("p")], evaluations, documents or [], [])


def documents(variant: str, task: str, values: list[float], first: int = 0) -> list[DocumentRow]:
    return [DocumentRow(variant, task, "acc", first + index, value) for index, value in enumerate(values)]


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
    assert standings(results(rows))[1].average is None


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
