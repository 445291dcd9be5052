"""Refitted variants in the report: the section, the remark in the plan's row, and lines of their own in charts."""

import math
from dataclasses import replace

import pytest
from serving_results import served_results

from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.refit_rows import RefitErrorRow, RefitRow
from drop_ray.report.sections.refit import refit_sections
from drop_ray.report.series import strategy_series
from drop_ray.report.tables import topic_table


def refit_row(variant, difference, stderr=0.01):
    return RefitRow(
        variant=variant,
        of=variant.removesuffix("-refit"),
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
    section = text.split("## What refitting brought back")[1].split("\n## ")[0]
    assert "0.1250" in section
    assert "0.1250 " in section
    assert "Not seen to be nearer to the base than before: attention-4-weak." in section
    rows = [line for line in text.splitlines() if "not nearer to the base by it" in line]
    assert len(rows) == 1
    assert "attention-4-weak" in rows[0]
    assert "as it is" in render_html(results)
    assert "50 %" in render_html(results)


def test_a_run_without_refits_has_no_section():
    assert refit_sections(served_results()) == []
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
