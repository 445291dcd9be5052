"""Flips, calibration error, targets and screening in the report, and pairs that only KL tells apart."""

from dataclasses import replace
from typing import Any

import pytest
from test_report_statistics import RUN, documents, evaluation, variant

from drop_ray.report.answers import FlipRow, flips, mcnemar
from drop_ray.report.divergence_rows import DivergenceRow, DivergenceSampleRow, DivergenceText
from drop_ray.report.html import render_html
from drop_ray.report.judgement import CalibrationRow, ScreenRow, TargetRow
from drop_ray.report.markdown import render_markdown
from drop_ray.report.results import Results
from drop_ray.report.told_apart import told_apart

NAMES = ("base", "p", "q", "r")


def results(**fields: Any) -> Results:
    """Three plans; p and q differ by one document in 20, r answers everything wrongly."""
    values = {"base": [1.0] * 12 + [0.0] * 8, "p": [0.0, *[1.0] * 12, *[0.0] * 7]}
    values |= {"q": [1.0] * 11 + [0.0] * 9, "r": [0.0] * 20}
    rows = [evaluation(name, "a", sum(values[name]) / 20) for name in NAMES]
    variants = [variant(name, "base" if name == "base" else "attention") for name in NAMES]
    pairs = [row for name in NAMES for row in documents(name, "a", values[name])]
    return replace(Results(RUN, [], variants, rows, pairs, []), **fields)


def panels(**kl: list[float]) -> dict[str, Any]:
    """Panels and samples of variants, from their KL by sample."""
    rows = [
        DivergenceRow(10, len(values), sum(values) / len(values), 0.01, *[0.1] * 6, 0.9, 0.8, 0.05, 0.01, name)
        for name, values in kl.items()
    ]
    samples = [
        DivergenceSampleRow(name, number, 10, value, 1.0, 1.1, 0.9, 0.8)
        for name, values in kl.items()
        for number, value in enumerate(values)
    ]
    return {"divergences": rows, "divergence_samples": samples, "divergence_text": DivergenceText("t", 4, 10)}


@pytest.mark.parametrize(
    ("lost", "gained", "expected"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 2**5),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
        (5, 5, 1.0),
        (2000, 2000, 1.0),
        (0, 5000, 0.0),
    ],
)
def test_p_of_mcnemar_is_exact(lost: int, gained: int, expected: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_flips_are_counted_in_both_directions() -> None:
    assert [*flips(results())] == [
        FlipRow("p", "a", "acc", 20, 1, 1, 1.0),
        FlipRow("q", "a", "acc", 20, 1, 0, 1.0),
        FlipRow("r", "a", "acc", 20, 12, 0, pytest.approx(2 / 2**12)),
    ]


def test_values_that_are_neither_right_nor_wrong_do_not_flip() -> None:
    table = results()
    half = [replace(row, value=0.5) if row.variant == "p" and row.doc_id == 3 else row for row in table.documents]
    assert [row.variant for row in flips(replace(table, documents=half))] == ["q", "r"]


def test_only_documents_of_both_flip() -> None:
    table = results()
    fewer = [row for row in table.documents if row.variant != "r" or row.doc_id >= 10]
    (row,) = [row for row in flips(replace(table, documents=fewer)) if row.variant == "r"]
    assert (row.documents, row.right_to_wrong, row.wrong_to_right) == (10, 2, 0)
    assert row.flipped == pytest.approx(0.2)


def test_a_pair_that_only_kl_tells_apart_is_named() -> None:
    table = results(**panels(p=[0.10, 0.11, 0.09, 0.10], q=[0.20, 0.21, 0.20, 0.19], r=[0.9, 0.9, 0.8, 0.95]))
    found = {(row.nearer, row.farther): (row.by_tasks, row.by_kl) for row in told_apart(table)}
    assert found == {("p", "q"): (False, True), ("p", "r"): (True, True), ("q", "r"): (True, True)}
    for text in (render_html(table), render_markdown(table)):
        assert "Of 3 pairs of variants the tasks tell 2 apart" in text
        assert "KL alone tells 1 apart, such as" in text


def test_pairs_paired_by_hand() -> None:
    table = results(**panels(p=[0.1, 0.3], q=[0.2, 0.6]))
    (row,) = told_apart(table)
    assert (row.nearer, row.farther, row.documents) == ("p", "q", 20)
    assert row.kl_difference == pytest.approx(0.2)  # of 0.1 and 0.3
    assert row.kl_stderr == pytest.approx(0.1)
    assert row.kl_standard_errors == pytest.approx(2)
    assert not row.by_kl
    assert row.task_difference == pytest.approx(-0.05)
    assert "There is no pair that KL tells apart and the tasks do not" in render_markdown(table)


def test_a_panel_stands_beside_the_accuracies() -> None:
    text = render_markdown(results(**panels(p=[0.1, 0.3])))
    (line,) = [
        line for line in text.splitlines() if line.startswith("| p") and "90.0 %" in line and "attention" in line
    ]
    assert "0.2" in line
    assert "KL" not in render_markdown(results())


def test_who_was_left_out_and_why_is_said() -> None:
    screening = [ScreenRow("p", True, "KL 0.1 is the lowest of 3; 1 is kept"), ScreenRow("q", False, "it has no panel")]
    table = results(screening=screening, **panels(p=[0.1, 0.3]))
    for text in (render_html(table), render_markdown(table)):
        assert "1 of 2 were evaluated" in text
        assert "KL 0.1 is the lowest of 3; 1 is kept" in text
        assert "it has no panel" in text
    assert "Who was evaluated" not in render_markdown(results())


def target(**fields: Any) -> TargetRow:
    row = TargetRow("p", "a", "acc", 0.05, 0.95, 128, 400, -0.01, -0.05, 0.03, "")
    return replace(row, **fields)


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, "cannot be told apart at this width"),
        ({"low": -0.09, "high": -0.01, "difference": -0.05}, "lower"),
        ({"low": 0.01, "high": 0.09, "difference": 0.05}, "higher"),
        ({"documents": 400}, "all documents were needed"),
        (
            {"low": None, "high": None, "difference": None, "no_interval": "evaluated whole, since"},
            "evaluated whole, since",
        ),
    ],
)
def test_how_a_target_ended_is_said(fields: dict[str, Any], verdict: str) -> None:
    text = render_markdown(results(targets=[target(**fields)]))
    assert verdict in text
    assert "of 400" in text
    is_estimated = "a variant's value is the base's over all documents plus the difference" in text
    assert is_estimated == (fields.get("no_interval") is None)


def test_evaluations_without_confidences_leave_a_gap_that_is_explained() -> None:
    rows = [CalibrationRow("base", "a", 20, 0.6, 0.7, 0.12, 0.12), CalibrationRow("p", "a", 0, None, None, None, None)]
    text = render_markdown(results(calibrations=rows))
    assert "| base | a | 20 |" in " ".join(text.split()).replace("  ", " ")
    assert "There are no confidences of p" in text
    alone = render_markdown(results(calibrations=rows[1:]))
    assert "There are no confidences of p" in alone


def test_equal_variants_are_one_of_a_pair() -> None:
    table = results(**panels(p=[0.1, 0.1, 0.11], q=[0.2, 0.2, 0.21], r=[0.1, 0.1, 0.11]))
    assert [(row.nearer, row.farther) for row in told_apart(table)] == [("p", "q")]


def test_an_equal_variant_that_was_not_evaluated_hides_no_other() -> None:
    table = results(**panels(p=[0.1, 0.1, 0.11], q=[0.2, 0.2, 0.21], r=[0.1, 0.1, 0.11]))
    without = [row for row in table.evaluations if row.variant != "p"]
    assert [(row.nearer, row.farther) for row in told_apart(replace(table, evaluations=without))] == [("r", "q")]
