"""What was lost and what came back: shares with intervals, whose they are, and how plans were refitted."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from serving_results import served_results

from drop_ray.evaluation.divergence.panel import panel_of
from drop_ray.report.blocks import Table
from drop_ray.report.divergence_rows import DivergenceRow, DivergenceSampleRow, DivergenceText
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.recovery import recovery, share_left
from drop_ray.report.refit_rows import RefitErrorRow, RefitRow
from drop_ray.report.rows import DocumentRow, Quantization
from drop_ray.report.sections.recovery import recovery_sections
from drop_ray.report.series import strategy_series
from drop_ray.report.tables import topic_table


def refit_row(variant, difference, stderr=0.01):
    return RefitRow(
        variant=variant,
        of=variant.rpartition("-")[0],
        ridge="auto",
        text="mixed.jsonl",
        samples=120,
        tokens=30720,
        projections=2,
        held_out=8,
        kl_dropped=0.25,
        kl_refitted=0.25 + difference,
        difference=difference,
        stderr=stderr,
    )


def error_row(variant, ridge, after):
    return RefitErrorRow(variant, 3, "mlp", ridge, 64, 8.0, after, 4.0, after)


def refitted_results():
    plain = served_results()
    four = next(row for row in plain.variants if row.name == "attention-4")
    made = [replace(four, name=f"attention-4-{label}", changes=(label,), refit=label) for label in ("refit", "weak")]
    return replace(
        plain,
        variants=[*plain.variants, *made],
        refits=[refit_row("attention-4-refit", -0.125), refit_row("attention-4-weak", -0.015)],
        refit_errors=[error_row("attention-4-refit", 0.1, 2.0), error_row("attention-4-weak", math.inf, 4.0)],
    )


@pytest.mark.parametrize(
    ("difference", "stderr", "closer"),
    [(-0.03, 0.01, True), (-0.015, 0.01, False), (0.2, 0.01, False), (-1, None, False)],
)
def test_a_variant_is_nearer_if_the_paired_difference_says_so(difference, stderr, closer):
    assert refit_row("a-refit", difference, stderr).is_closer == closer


def test_the_report_says_what_came_back_and_where_nothing_did():
    results = refitted_results()
    text = render_markdown(results)
    section = text.split("## What was lost, and what came back")[1].split("\n## ")[0]
    assert "0.1250" in section
    assert "0.1250 " in section
    assert "Not seen to be nearer to the base than before: attention-4-weak." in section
    rows = [line for line in text.splitlines() if "not nearer to the base by it" in line]
    assert len(rows) == 1
    assert "attention-4-weak" in rows[0]
    assert "as it is" in render_html(results)
    assert "50 %" in render_html(results)


def test_a_run_without_refits_has_no_section():
    assert recovery_sections(served_results()) == []
    assert "not nearer" not in render_markdown(served_results())


def test_refitted_variants_have_a_line_of_their_own():
    series = {one.label: [row.name for row in one.variants] for one in strategy_series(refitted_results().variants)}
    assert series["attention, refit"] == ["attention-4-refit"]
    assert series["attention, weak"] == ["attention-4-weak"]
    assert "attention-4" in series["attention"]
    assert not {"attention-4-refit", "attention-4-weak"} & {*series["attention"]}


def test_rows_of_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="refits of unknown variants"):
        replace(served_results(), refits=[refit_row("nobody-refit", -1)])


def test_tables_hold_every_row():
    table = topic_table("refits", refitted_results())
    assert table["is_closer"].to_pylist() == [True, False]
    assert topic_table("refit_errors", refitted_results())["ridge"].to_pylist() == [0.1, math.inf]


def sample_row(variant, index, kl):
    return DivergenceSampleRow(variant, index, 100, kl, 2.0, 2.0 + kl, 0.9, 0.9)


def panel(variant, values):
    found = panel_of(*[np.array([[value] * 2 for value in values])] * 5)
    return DivergenceRow(**asdict(found), variant=variant)


KL = {"attention-4": [0.2, 0.4, 0.3], "attention-4-refit": [0.1, 0.2, 0.15], "attention-4-weak": [0.2, 0.41, 0.28]}
KL["attention-4-refit-awq"] = [0.12, 0.22, 0.16]
TEXT = DivergenceText("wiki.txt, behind the calibration samples", 3, 128)


def changed_results():
    """A plan as it was dropped, refitted in two ways, and the first of them quantized."""
    results = refitted_results()
    refitted = next(row for row in results.variants if row.name == "attention-4-refit")
    how = Quantization("attention-4-refit", "awq", "awq", 4, 128, False, False)
    quantized = replace(refitted, name="attention-4-refit-awq", changes=("refit", "awq"), quantization=how)
    return replace(
        results,
        variants=[*results.variants, quantized],
        divergences=[panel(name, values) for name, values in KL.items()],
        divergence_samples=[
            sample_row(name, index, kl) for name, values in KL.items() for index, kl in enumerate(values)
        ],
        divergence_text=TEXT,
    )


def test_plan_by_plan_it_is_told_what_was_lost_and_what_came_back():
    rows = recovery(changed_results())
    assert [(row.plan, row.variant, row.changes) for row in rows] == [
        ("attention-4", "attention-4", "as dropped"),
        ("attention-4", "attention-4-refit", "refit"),
        ("attention-4", "attention-4-weak", "weak"),
        ("attention-4", "attention-4-refit-awq", "refit, awq"),
    ]
    plan, refit, weak, both = rows
    assert (plan.kl, plan.came_back) == (pytest.approx(0.3), None)
    # All samples have exactly half of it left, so that nothing is unsure.
    assert (refit.came_back, refit.came_back_low, refit.came_back_high) == pytest.approx((0.5, 0.5, 0.5))
    assert weak.came_back_low < 0 < weak.came_back < weak.came_back_high
    assert both.came_back == pytest.approx(1 - 0.5 / 0.9)


def test_the_share_that_is_left_is_a_ratio_of_means_with_its_interval():
    """By hand: ratio 0.5; residuals 0.02, -0.02, 0 of after - ratio x before, with standard error 0.02 / sqrt(3)."""
    found = share_left({1: 0.12, 2: 0.18, 3: 0.15, 9: 1.0}, {1: 0.2, 2: 0.4, 3: 0.3, 8: 1.0})
    assert found.value == pytest.approx(0.5)
    assert found.high - found.value == pytest.approx(4.302653 * 0.02 / math.sqrt(3) / 0.3, rel=1e-6)
    assert share_left({1: 0.1}, {1: 0.2}) is None
    assert share_left({1: 0.1, 2: 0.1}, {1: 0.0, 2: 0.0}) is None


def test_points_are_paired_by_document_against_base_and_plan():
    results = changed_results()
    by_hand = [DocumentRow("base", "piqa", "acc", index, 1.0) for index in range(100)]
    by_hand += [DocumentRow("attention-4", "piqa", "acc", index, float(index >= 10)) for index in range(100)]
    by_hand += [DocumentRow("attention-4-refit", "piqa", "acc", index, float(index >= 4)) for index in range(100)]
    plan, refit, weak, _ = recovery(replace(results, documents=by_hand))
    assert (plan.lost, plan.gained) == (pytest.approx(0.1), None)
    assert (refit.lost, refit.gained) == (pytest.approx(0.04), pytest.approx(0.06))
    assert refit.gained_low > 0
    assert (weak.lost, weak.gained) == (None, None)


def test_the_section_says_which_text_and_which_tasks_numbers_are_of():
    text = render_markdown(changed_results()).split("## What was lost, and what came back")[1].split("\n## ")[0]
    assert "KL is on wiki.txt, behind the calibration samples: 3 samples of 128 tokens." in text
    assert "Points are of the mean over piqa, of 100, paired by document." in text
    assert "Of 2 of 3 changed variants a part of the KL surely came back" in text
    assert "50 % 50 % to 50 %" in text
    assert "| attention-4-refit-awq " in text
    assert "mixed.jsonl" in text.split("### How it was refitted")[1]


def test_columns_of_which_nothing_is_known_are_left_out():
    results = replace(changed_results(), documents=[])
    (section,) = recovery_sections(results)
    (table, *_) = [block for block in section.blocks if isinstance(block, Table)]
    assert [column.heading for column in table.columns] == ["variant", "changed", "KL to the base", "of it came back"]
