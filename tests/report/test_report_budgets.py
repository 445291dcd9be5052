"""Plans with limits in the report: what was measured beside what was reckoned, and whether the limits hold."""

from dataclasses import replace

import pytest
from serving_results import served_results

from drop_ray.report.budget_rows import BudgetRow, budgets_measured
from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.rows import Quantization
from drop_ray.report.sections.budgets import budgets_sections
from drop_ray.report.tables import topic_table


def row(quantity, limit, plan, **fields):
    return BudgetRow(
        **{"variant": "attention-4", "quantity": quantity, "asked": "0.5x", "limit": limit, **fields},
        base=9.0,
        first=5.0,
        plan=plan,
    )


@pytest.mark.parametrize(
    ("quantity", "limit", "plan", "measured", "holds"),
    [
        ("bytes", 8.0, 8.0, None, True),
        ("bytes", 8.0, 7.0, 8.5, False),
        ("speedup", 1.4, 1.4, None, True),
        ("speedup", 1.4, 1.5, 1.3, False),
        ("kl", None, 0.1, None, None),
    ],
)
def test_a_limit_holds_by_what_was_measured_or_else_by_what_was_reckoned(quantity, limit, plan, measured, holds):
    assert row(quantity, limit, plan, measured=measured).holds is holds


def test_what_the_benchmark_found_stands_beside_what_was_reckoned():
    results = served_results()
    measured = next(
        one
        for one in results.serving
        if one.variant == "attention-4" and one.metric == "output_tokens_per_s" and one.comparison == "equal_batch"
    )
    requests = {"prompt_tokens": measured.prompt_tokens, "output_tokens": measured.output_tokens}
    engine = next(one for one in results.engines if one.variant == "attention-4")
    rows = [
        row("speedup", 1.4, 1.5, **requests, batch_size=measured.batch_size),
        row("speedup", 1.4, 1.5, **requests, batch_size=measured.batch_size + 1),
        row("kv_bytes_per_token", 8.0, 7.0),
        row("bytes", 8.0, 7.0, measured=7.5),
    ]
    found = [one.measured for one in budgets_measured(replace(results, budgets=rows))]
    assert found == [measured.ratio, None, engine.kv_bytes_per_token_variant, 7.5]


def test_the_files_of_a_quantized_plan_are_what_is_measured():
    plain = served_results()
    four = next(one for one in plain.variants if one.name == "attention-4")
    how = Quantization("attention-4", "awq", "awq", 4, 128, False, False)
    awq = replace(four, name="attention-4-awq", quantization=how, weight_bytes=6)
    rows = [row("bytes", 8.0, 7.0, quantized="awq"), row("bytes", 8.0, 7.0, quantized="gptq")]
    results = replace(plain, variants=[*plain.variants, awq], budgets=rows)
    assert [one.measured for one in budgets_measured(results)] == [6.0, None]


def test_the_section_names_the_plans_whose_limits_do_not_hold():
    rows = [
        row("bytes", 24e9, 23.9e9, asked="24 GB", measured=24.1e9),
        row("sub_layers", 12.0, 12.0, asked="12"),
        row("score", None, 0.25, asked=""),
        row("kl", None, 0.125, asked=""),
    ]
    results = replace(served_results(), budgets=rows)
    text = render_markdown(results)
    assert "## A budget instead of a number" in text
    assert "a limit does not hold: attention-4." in text
    assert "23.9 GB" in text
    assert "24.1 GB" in text
    assert "A budget instead of a number" in render_html(results)
    table = topic_table("budgets", results).to_pylist()
    assert [one["holds"] for one in table] == [False, True, None, None]
    assert budgets_sections(served_results()) == []


def test_rows_name_variants_of_the_run():
    with pytest.raises(ValueError, match="budgets of unknown variants"):
        replace(served_results(), budgets=[replace(row("bytes", 8.0, 8.0), variant="nobody")])
