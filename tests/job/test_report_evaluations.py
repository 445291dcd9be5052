"""Rows of the report from artifacts: groups whose variants have different documents, and artifacts of an older kind."""

import pytest

from drop_ray.evaluation.confidence import CONFIDENCE
from drop_ray.report.judgement import CalibrationRow
from drop_ray.stages.report_evaluations import Evaluated, document_numbers
from drop_ray.stages.report_judgement import calibration_rows

CONFIGS = {"configs": {name: {"output_type": "multiple_choice"} for name in ("one", "two")}}


def row(task, doc_id, metric, value):
    return {"task": task, "doc_id": doc_id, "metric": metric, "filter": "none", "value": value}


def metric(task, name="acc"):
    return {"task": task, "metric": name, "filter": "none", "primary": True}


def evaluated(documents, task="both", raw=CONFIGS):
    """documents: (accuracy, confidence) by task and number; a confidence of None stands in no artifact."""
    rows = [row(*place, "acc", accuracy) for place, (accuracy, _) in documents.items()]
    rows += [row(*place, CONFIDENCE, sure) for place, (_, sure) in documents.items() if sure is not None]
    return Evaluated([metric(task)], rows, raw)


BASE = {("one", 0): (1.0, 0.9), ("one", 1): (0.0, 0.6), ("two", 0): (1.0, 0.7), ("two", 1): (1.0, 0.7)}


def test_documents_of_a_group_have_one_number_whoever_has_them():
    base, some = evaluated(BASE), evaluated({("two", 1): (0.0, 0.8), ("one", 1): (1.0, 0.8)})
    numbers = document_numbers([base, some])
    assert [(one.doc_id, one.value) for one in base.document_rows("base", numbers)] == [(0, 1), (1, 0), (2, 1), (3, 1)]
    assert {one.doc_id: one.value for one in some.document_rows("p", numbers)} == {3: 0.0, 1: 1.0}


def test_documents_of_a_task_keep_their_own_numbers():
    alone = evaluated({("one", 7): (1.0, 0.9)}, task="one")
    assert [one.doc_id for one in alone.document_rows("p", document_numbers([alone]))] == [7]


def test_the_calibration_error_is_compared_with_the_bases_on_the_same_documents():
    base, some = evaluated(BASE), evaluated({("two", 1): (0.0, 0.8), ("one", 1): (1.0, 0.8)})
    (found,) = calibration_rows("p", some, base)
    # One bin: |1 - 1.6| / 2. The base's bins on these documents: |0 - 0.6| and |1 - 0.7|.
    assert (found.documents, found.accuracy, found.confidence) == (2, 0.5, 0.8)
    assert found.error == pytest.approx(0.3)
    assert found.base_error == pytest.approx((0.6 + 0.3) / 2)


def test_artifacts_without_confidences_have_a_row_without_numbers():
    base, old = evaluated(BASE), evaluated({place: (accuracy, None) for place, (accuracy, _) in BASE.items()})
    assert [*calibration_rows("p", old, base)] == [CalibrationRow("p", "both", 0, None, None, None, None)]
    (found,) = calibration_rows("p", base, old)
    assert found.base_error is None
    assert found.error is not None


def test_tasks_that_are_no_choice_have_no_confidence_to_miss():
    raw = {"configs": {"one": {"output_type": "generate_until"}}}
    generated = evaluated({("one", 0): (1.0, None)}, task="one", raw=raw)
    assert [*calibration_rows("p", generated, generated)] == []
    text = Evaluated([metric("text", "token_perplexity")], [row("text", 0, "nll", 2.0)], {"samples": 1})
    assert [*calibration_rows("p", text, text)] == []
