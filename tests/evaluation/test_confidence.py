"""The expected calibration error, on cases small enough to do by hand."""

import math

import pytest

from drop_ray.evaluation.confidence import CONFIDENCE, calibration_of, confidence_values
from drop_ray.evaluation.result import DocumentValue


def test_the_error_is_the_weighted_distance_of_the_bins() -> None:
    # Bins (0.5, 0.6] and (0.9, 1]: |1 - 1.1| of two documents, |1 - 1.9| of two.
    found = calibration_of([0.55, 0.55, 0.95, 0.95], [True, False, True, False])
    assert found.error == pytest.approx((0.1 + 0.9) / 4)
    assert (found.documents, found.accuracy, found.confidence) == (4, 0.5, 0.75)


def test_a_model_that_knows_how_often_it_is_right_has_no_error() -> None:
    assert calibration_of([0.75] * 4, [True, True, True, False]).error == pytest.approx(0)
    assert calibration_of([1.0] * 3, [True] * 3).error == 0
    assert calibration_of([1.0] * 3, [False] * 3).error == 1


def test_a_border_belongs_to_the_lower_bin() -> None:
    # 0.5 and 0.45 share a bin, in which one of two is right; 0.51 would not.
    assert calibration_of([0.5, 0.45], [True, False]).error == pytest.approx(abs(1 - 0.95) / 2)
    assert calibration_of([0.51, 0.45], [True, False]).error == pytest.approx((0.49 + 0.45) / 2)


def test_no_documents_have_no_error() -> None:
    with pytest.raises(ValueError, match="no documents"):
        calibration_of([], [])


@pytest.mark.parametrize(
    ("metrics", "answers", "expected"),
    [
        (["acc"], [-1.0, -2.0], 1 / (1 + math.exp(-1))),
        (["acc"], [-1000.0, -1001.0], 1 / (1 + math.exp(-1))),
        (["acc", "acc_mutual_info"], [-1.0, -2.0, -9.0, -0.1], 1 / (1 + math.exp(-1))),
        (["acc"], [-1.0, -math.inf], None),
        (["acc"], [math.nan, -1.0], None),
    ],
)
def test_the_confidence_is_the_softmax_of_the_choices(metrics, answers, expected) -> None:
    sample = {"doc_id": 3, "filter": "none", "metrics": metrics, "filtered_resps": [(one, False) for one in answers]}
    accuracy = DocumentValue("t", 3, "hash", "prompt", "acc", "none", 1.0)
    (row,) = confidence_values("t", [sample], [accuracy])
    assert row[:6] == ("t", 3, "hash", "prompt", CONFIDENCE, "none")
    assert row.value == (None if expected is None else pytest.approx(expected))
    assert [*confidence_values("t", [sample], [])] == []
