"""The section about how far the calibration text decides the plans."""

from dataclasses import replace

from serving_results import served_results

from drop_ray.report.html import render_html
from drop_ray.report.markdown import render_markdown
from drop_ray.report.sections.sensitivity import sensitivity_sections
from drop_ray.report.sensitivity_rows import AgreementRow, SensitivityRow
from drop_ray.report.tables import topic_table


def row(text, num_samples, layers, overlap, **measured):
    return SensitivityRow("attention-2", text, num_samples, layers, (), overlap, **measured)


ROWS = [
    row("calibration", 64, (5, 3), 1.0, kl=0.25, kl_stderr=0.01),
    row("code", 8, (5, 1), 0.5, kl=0.375, kl_stderr=0.02, difference=0.125, difference_stderr=0.015),
    row("consensus", None, (5, 3), 1.0, kl=0.25, kl_stderr=0.01, difference=0.0, difference_stderr=0.0),
]
PAIR = AgreementRow("attention-2", "calibration", 64, "code", 8, 0.75, 0.5)


def compared(rows=ROWS, agreements=(PAIR,)):
    return replace(served_results(), sensitivity=rows, agreements=agreements)


def test_the_report_says_what_would_be_dropped_and_what_that_costs():
    text = render_markdown(compared())
    assert "0 of 1 plan would drop the same by every text" in text
    assert "changes by +0.1250 \u00b1 0.0150 at most (attention-2 by code, 8 samples)" in text
    (code,) = [line for line in text.splitlines() if "| code " in line and "attn" in line]
    assert [cell.strip() for cell in code.split("|")[3:8]] == [
        "8",
        "attn 1,5",
        "50 %",
        "0.3750 \u00b1 0.0200",
        "+0.1250 \u00b1 0.0150",
    ]
    assert text.count("the same") >= 2  # the plan itself, and the consensus
    assert "| calibration, 64 samples | code, 8 samples |  0.75 |" in text
    assert "How far the calibration text decides" in render_html(compared())


def test_without_a_comparison_there_is_no_section_and_without_panels_no_kl():
    assert sensitivity_sections(served_results()) == []
    bare = [replace(one, kl=None, kl_stderr=None, difference=None, difference_stderr=None) for one in ROWS]
    text = render_markdown(compared(bare, ()))
    assert "would drop the same by every text." in text
    assert "Agreement of the texts" not in text


def test_the_tables_have_what_the_section_shows():
    table = topic_table("sensitivity", compared())
    assert table["num_samples"].to_pylist() == [64, 8, None]
    assert table["drop_attn"].to_pylist() == [[5, 3], [5, 1], [5, 3]]
    assert topic_table("text_agreement", compared())["tau"].to_pylist() == [0.75]
